package dnscache

import (
	"math/rand/v2"
	"time"
)

// refreshMinTTL is how long an answer must live to be refreshed ahead of its expiry.
const refreshMinTTL = time.Minute

// refreshAhead looks an entry up again in the background, once: in the last tenth of its life, earlier or later by
// chance, so that answers which arrived together are not refreshed together. It is called for hits only, so an entry
// that is not in use is never refreshed.
func (c *Cache) refreshAhead(e *entry, now instant) {
	life, left := time.Duration(e.life)*time.Second, time.Duration(e.expires-now)*tick
	due := left <= life/20 || left <= life/10 && rand.IntN(4) == 0
	if life >= refreshMinTTL && due && (!e.failed || now >= e.retry) {
		c.ahead.start(c, e.question, e)
	}
}
