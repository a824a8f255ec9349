package stub

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	slowAnswer = time.Second     // from here on an answer is late
	minOutage  = 5 * time.Second // how long every lookup must have failed before an outage is reported
	// quietOutage is how long no lookup must have succeeded, and one must have failed, for the success that follows to
	// end an outage on a machine that asks seldom.
	quietOutage = 30 * time.Second
	// outageNames is how many different names must have failed in succession for the servers to be at fault, and not
	// the names: someone may ask for a bogus name again and again.
	outageNames = 3
)

// health is what is known about how the servers of a list answer. It never decides whether an answer is secure.
type health struct {
	doubt   atomic.Bool    // since the servers were last watched, a query or a lookup failed, or an answer was late
	outages *atomic.Uint32 // Stub.outages

	mu sync.Mutex
	streak
	success time.Time // when a lookup last succeeded
}

// streak is a number of lookups that have failed in succession, whichever server was asked.
type streak struct {
	since     time.Time      // when the first of them began; zero: none has failed
	questions []dns.Question // the last three, for different names
	reason    string         // of the last failure
	ours      bool           // a question of our own has failed too
}

// doubtful reports whether questions of our own should tell if the servers answer, and in time. The questions are those
// to ask servers that answer our own: a resolver without an uplink still answers what it has in its cache.
func (h *health) doubtful() (doubt bool, questions []dns.Question) {
	h.mu.Lock()
	defer h.mu.Unlock()
	many := len(h.questions) == outageNames
	doubt = h.doubt.Swap(false) || h.ours || many
	if many && !h.ours {
		questions = slices.Clone(h.questions)
	}
	return doubt, questions
}

// watched notes whether a server gave a useful answer to a question of our own that was sent to all of them then. If
// none did before, an outage has ended.
func (h *health) watched(began time.Time, useful bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.since.IsZero() || began.Before(h.success):
	case useful && h.ours:
		h.end()
	default:
		h.ours = !useful
	}
}

// succeeded notes that a lookup has succeeded. If that ends an outage, its failures count no more.
func (h *health) succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end()
}

// end is succeeded where h.mu is held.
func (h *health) end() {
	if h.outage() || h.ours || !h.since.IsZero() && time.Since(h.since) >= quietOutage {
		h.outages.Add(1)
	}
	h.success, h.streak = time.Now(), streak{}
}

// failed notes that a lookup which began then has failed at every server. A lookup that began before the last success
// says nothing about the time after it.
func (h *health) failed(q dns.Question, began time.Time, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if began.Before(h.success) {
		return
	}
	if h.since.IsZero() || began.Before(h.since) {
		h.since = began
	}
	h.reason = reason
	h.doubt.Store(true)
	same := func(o dns.Question) bool { return apart(o.Name) == apart(q.Name) }
	if !slices.ContainsFunc(h.questions, same) {
		h.questions = append(h.questions[max(0, len(h.questions)+1-outageNames):], q)
	}
}

// outage reports whether the servers fail, and not only some names; h.mu is held.
func (h *health) outage() bool {
	return (h.ours || len(h.questions) == outageNames) && time.Since(h.since) >= minOutage
}

// state returns since when the servers have failed, and the last reason, or the zero time.
func (h *health) state() (since time.Time, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outage() {
		return h.since, h.reason
	}
	return time.Time{}, ""
}

// apart returns the name without the labels in front that begin with an underscore: _mta-sts.example.com fails with
// example.com.
func apart(name string) string {
	for strings.HasPrefix(name, "_") {
		_, name, _ = strings.Cut(name, ".")
	}
	return name
}
