package lookup

import (
	"hash/maphash"
	"math"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
)

// settingsAndMemo is one set of settings, and the memo of the last answers under them. An answer is reused while
// nothing has changed in any of the sources that it rests on and none of its facts has expired. The memo saves deciding
// and rendering again, and never decides anything. The size of the memo is fixed, whatever is asked for. After a
// reload, only requests in progress keep it.
type settingsAndMemo struct {
	Settings
	seed  maphash.Seed
	slots [memoSlots]atomic.Pointer[answered]
}

const (
	memoSlots = 1 << 14
	memoBytes = 8 << 10 // a longer reply is not remembered
	// An answer is reused for 1/memoDivisor of the time until its first fact expires, but for memoLeast at least and
	// memoMost at most, and never after that fact has expired. Its facts are then read again, so that the cache knows
	// which are in use and refreshes them in the last tenth of their life.
	memoDivisor = 20
	memoLeast   = 2 * time.Second
	memoMost    = 10 * time.Second
)

// pair returns the two slots that the answer to c can be in.
func (set *settingsAndMemo) pair(c *call) [2]*atomic.Pointer[answered] {
	i := (maphash.String(set.seed, c.m) + maphash.String(set.seed, c.key)) % memoSlots
	return [2]*atomic.Pointer[answered]{&set.slots[i], &set.slots[i^1]}
}

// recall returns the answer to c if it is still the same, and nil otherwise.
func (set *settingsAndMemo) recall(c *call, version uint64) *answered {
	for _, slot := range set.pair(c) {
		if a := slot.Load(); a != nil && a.m == c.m && a.key == c.key && a.counts(c, version) {
			return a
		}
	}
	return nil
}

// keep remembers the answer to c, which was decided from this version of the sources. expires is when its first fact
// expires, or zero if none does. keep uses the second of the two slots if the first has an answer that still counts.
func (set *settingsAndMemo) keep(c *call, a *answered, version uint64, expires time.Time) {
	if version == 0 || len(a.reply.Text) > memoBytes {
		return
	}
	left := time.Duration(math.MaxInt64)
	if !expires.IsZero() {
		left = time.Until(expires)
	}
	a.m, a.key, a.version = c.m, c.key, version
	lasts := max(memoLeast, min(left/memoDivisor, memoMost))
	a.until = c.arrived + min(left, lasts)
	a.decision.TLS = policy.TLSPolicy{Level: a.decision.TLS.Level} // do not keep the MTA-STS policy, which can be large
	slots := set.pair(c)
	old := slots[0].Load()
	if old != nil && old.counts(c, version) {
		slots[1].Store(a)
	} else {
		slots[0].Store(a)
	}
}

// counts reports whether the answer still counted when c arrived, with that version of the sources.
func (a *answered) counts(c *call, version uint64) bool {
	return c.arrived < a.until && a.version == version
}

// lasting reports whether a decision rests only on facts that change with the version of the sources: not on a failure,
// which ends by itself, not on an MTA-STS policy that its domain could not confirm, not on Postfix's configuration, not
// on a probe, not on the self-test of the resolver and not on a remembered promise.
func lasting(f *policy.Facts, d policy.Decision) bool {
	k := f.Known
	sts := !k.STS || f.STS.State == mtasts.Absent || f.STS.State == mtasts.Found && !f.STS.Stale
	return sts && !d.Vanished && d.Verdict != policy.Defer && !k.Validates && !k.Relay && !k.Probes && !k.Receiver
}
