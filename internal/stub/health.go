package stub

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/oncelog"
)

const (
	// watchInterval is how often servers that do not answer are asked whether they do again.
	watchInterval = 2 * time.Second
	// slowAnswer is how long an answer must take to be slow.
	slowAnswer = time.Second
	// minOutage is how long every lookup must have failed before an outage is reported.
	minOutage = 5 * time.Second
	// quietOutage is how long no lookup must have succeeded, and one must have failed, for the success that follows to
	// end an outage on a machine that asks seldom.
	quietOutage = 30 * time.Second
	// outageNames is how many different names must have failed in succession for the servers to be at fault, and not
	// the names: someone may ask for a bogus name again and again.
	outageNames = 3
)

// health is what is known about how the servers of a list answer. It never decides whether an answer is secure.
type health struct {
	mu      sync.Mutex
	servers map[Server]*record
	streak  streak
	success time.Time      // when a lookup last succeeded
	outages *atomic.Uint32 // Stub.outages
}

// record is what is known about one server.
type record struct {
	failures     int  // since it last answered
	slow         bool // an answer was slow, and a question of our own has not been answered in time since
	silent, late condition
}

// condition is a state of a server that is logged: its beginning at most once a minute, its end if the beginning was. A
// domain with slow name servers makes a server look dead or slow for a moment, as often as its owner likes.
type condition struct {
	begins oncelog.Limiter
	open   bool // its end has not been logged
}

// begin reports whether to log that the condition exists.
func (c *condition) begin() bool {
	if c.open {
		return false
	}
	_, c.open = c.begins.Due()
	return c.open
}

// end reports whether to log that the condition does not exist any more.
func (c *condition) end() bool {
	was := c.open
	c.open = false
	return was
}

// streak is a number of lookups that have failed in succession, whichever server was asked.
type streak struct {
	since     time.Time      // when the first of them began; zero: none has failed
	questions []dns.Question // the last three, for different names
	reason    string         // of the last failure
	fresh     bool           // the servers have not been watched since
	ours      bool           // a question of our own has failed too
}

func newHealth(servers []Server, outages *atomic.Uint32) *health {
	h := &health{servers: map[Server]*record{}, outages: outages}
	for _, s := range servers {
		h.servers[s] = &record{}
	}
	return h
}

// order returns the servers in the order in which to ask them: those that answered last time come first.
func (h *health) order(servers []Server) []Server {
	if len(servers) < 2 {
		return servers
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ordered := slices.Clone(servers)
	slices.SortStableFunc(ordered, func(a, b Server) int {
		return min(h.servers[a].failures, 1) - min(h.servers[b].failures, 1)
	})
	return ordered
}

// answered notes that a server answered. It reports whether the server had failed before, as it may have been restarted
// with other settings, and whether to log that it answers again.
func (h *health) answered(s Server, took time.Duration) (again, log bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.servers[s]
	again = r.failures > 0
	r.failures = 0
	r.slow = r.slow || took >= slowAnswer
	return again, again && r.silent.end()
}

// failed notes that a server did not answer.
func (h *health) failed(s Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers[s].failures++
}

// isSilent reports whether to log that a question of our own was not answered.
func (h *health) isSilent(s Server) (log bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.servers[s].silent.begin()
}

// isLate notes whether the answer to a question of our own was late, and reports whether to log it.
func (h *health) isLate(s Server, late bool) (log bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.servers[s]
	if late {
		return r.late.begin()
	}
	r.slow = false
	return r.late.end()
}

// doubtful reports whether a question of our own should tell if a server answers, and in time.
func (h *health) doubtful(s Server) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.servers[s]
	return r.failures > 0 || r.slow
}

// silent returns those servers that did not answer when they were last asked.
func (h *health) silent(servers []Server) []Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return h.servers[s].failures == 0 })
}

// succeeded notes that a lookup which began then has succeeded, which ends an outage. Its failures then count no more.
func (h *health) succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.streak.since.IsZero() && (h.outage(now) || h.streak.ours || now.Sub(h.streak.since) >= quietOutage) {
		h.outages.Add(1)
	}
	h.success, h.streak = now, streak{}
}

// lookupFailed notes that a lookup which began then has failed at every server. A lookup that began before the last
// success says nothing about the time after it.
func (h *health) lookupFailed(q dns.Question, began time.Time, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if began.Before(h.success) {
		return
	}
	k := &h.streak
	if k.since.IsZero() || began.Before(k.since) {
		k.since = began
	}
	k.reason, k.fresh = reason, true
	same := func(o dns.Question) bool { return apart(o.Name) == apart(q.Name) }
	if !slices.ContainsFunc(k.questions, same) {
		k.questions = append(k.questions[max(0, len(k.questions)+1-outageNames):], q)
	}
}

// outage reports whether the servers fail, and not only some names; h.mu is held.
func (h *health) outage(now time.Time) bool {
	k := &h.streak
	return !k.since.IsZero() && (k.ours || len(k.questions) == outageNames) && now.Sub(k.since) >= minOutage
}

// failing returns the questions that have failed since lookups last succeeded, and whether the servers should be
// watched.
func (h *health) failing() (questions []dns.Question, watch bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.streak.questions), h.streak.fresh || h.streak.ours || len(h.streak.questions) == outageNames
}

// watched notes whether a question of our own, to all servers, has failed too. It returns true if it had failed and now
// has not: the outage has ended.
func (h *health) watched(began time.Time, failed bool) (ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streak.since.IsZero() || began.Before(h.success) {
		return false
	}
	ended = h.streak.ours && !failed
	h.streak.fresh, h.streak.ours = false, failed || ended
	return ended
}

// state returns since when the servers have failed, and the last reason, or the zero time.
func (h *health) state() (since time.Time, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.outage(time.Now()) {
		return time.Time{}, ""
	}
	return h.streak.since, h.streak.reason
}

// apart returns the name without the labels in front that begin with an underscore: _mta-sts.example.com fails with
// example.com.
func apart(name string) string {
	for strings.HasPrefix(name, "_") {
		_, rest, more := strings.Cut(name, ".")
		if !more {
			break
		}
		name = rest
	}
	return name
}
