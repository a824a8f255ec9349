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

// health is what is known about how the servers answer. It never decides whether an answer is secure.
type health struct {
	mu      sync.Mutex
	servers map[Server]*record
	streak  streak
	success time.Time // when a lookup last succeeded
	// outages counts the outages that have ended. It is dns.Epoch.Failures.
	outages atomic.Uint32
}

// record is what is known about one server.
type record struct {
	failures int  // since it last answered
	slow     bool // an answer was slow, and a question of our own has not been answered in time since
	// By condition: the lines about its beginning, and whether its end has not been logged since. A domain with slow
	// name servers makes a server look dead or slow for a moment, as often as its owner likes.
	begins [conditions]oncelog.Limiter
	open   [conditions]bool
}

// Conditions of a server that are logged when they begin and when they end.
const (
	silentServer = iota
	slowServer
	conditions
)

// streak is a number of lookups that have failed in succession, whichever server was asked.
type streak struct {
	since     time.Time      // when the first of them began; zero: none has failed
	questions []dns.Question // the last three, for different names
	reason    string         // of the last failure
	fresh     bool           // the servers have not been watched since
	ours      bool           // a question of our own has failed too
}

func (h *health) of(s Server) *record {
	r := h.servers[s]
	if r == nil {
		if h.servers == nil {
			h.servers = map[Server]*record{}
		}
		r = &record{}
		h.servers[s] = r
	}
	return r
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
		return min(h.of(a).failures, 1) - min(h.of(b).failures, 1)
	})
	return ordered
}

// answered notes that a server answered, and reports whether it had failed before: it may have been restarted with
// other settings.
func (h *health) answered(s Server, took time.Duration) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(s)
	again = r.failures > 0
	r.failures = 0
	r.slow = r.slow || took >= slowAnswer
	return again
}

// failed notes that a server did not answer.
func (h *health) failed(s Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of(s).failures++
}

// log reports whether a change of a condition of a server should be logged: its beginning at most once a minute, its
// end if the beginning was logged.
func (h *health) log(s Server, condition int, begins bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.of(s)
	was := r.open[condition]
	switch {
	case !begins:
		r.open[condition] = false
		return was
	case was:
		return false
	}
	_, r.open[condition] = r.begins[condition].Due()
	return r.open[condition]
}

// inTime notes that a server answers in time again.
func (h *health) inTime(s Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of(s).slow = false
}

// doubtful reports whether a question of our own should tell if a server answers, and in time.
func (h *health) doubtful(s Server) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of(s).failures > 0 || h.of(s).slow
}

// silent returns those servers that did not answer when they were last asked.
func (h *health) silent(servers []Server) []Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return h.of(s).failures == 0 })
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

// reset forgets everything about servers that are no longer asked.
func (h *health) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers, h.streak, h.success = nil, streak{}, time.Now()
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
