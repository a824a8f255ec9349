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
	slowAnswer = time.Second     // an answer that takes longer is late
	minOutage  = 5 * time.Second // how long every lookup must have failed before an outage is reported
	// quietOutage applies to machines with few lookups, where too few names fail for an outage to be reported. There, a
	// success at least quietOutage after the first failure ends an outage.
	quietOutage = 30 * time.Second
	// outageNames is how many different names must have failed in succession for the servers to be at fault, and not
	// the names: an untrusted sender may ask for a bogus name again and again.
	outageNames = 3
)

// health is what is known about how the servers of a list answer. It never decides whether an answer is secure.
type health struct {
	suspect atomic.Bool    // since needsCheck was last called, a query or a lookup failed, or an answer was late
	outages *atomic.Uint32 // Stub.outages

	mu sync.Mutex
	streak
	success time.Time // when a lookup last succeeded
}

// streak is a number of lookups that have failed in succession, whichever server was asked.
type streak struct {
	since          time.Time      // when the first of them began; zero: none has failed
	questions      []dns.Question // the last three that failed, for different names
	reason         string         // the reason of the last failure
	ownQueryFailed bool           // Run's own query has failed too
}

// needsCheck reports whether Run should send the servers a query of its own, to learn whether they answer in time.
// Servers that do must also answer the questions: a resolver without an uplink still answers from its cache.
func (h *health) needsCheck() (needed bool, questions []dns.Question) {
	h.mu.Lock()
	defer h.mu.Unlock()
	suspect := h.suspect.Swap(false)
	if h.manyNames() && !h.ownQueryFailed {
		questions = slices.Clone(h.questions)
	}
	return suspect || h.ownQueryFailed || h.manyNames(), questions
}

// noteOwnQuery notes whether any server gave a useful answer to a query of our own that was sent to all of them at
// began. If so, and if none did the last time, an outage has ended.
func (h *health) noteOwnQuery(began time.Time, useful bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.since.IsZero() || began.Before(h.success):
	case useful && h.ownQueryFailed:
		h.succeededLocked()
	default:
		h.ownQueryFailed = !useful
	}
}

// succeeded notes that a lookup has succeeded. If that ends an outage, the failures during it no longer count.
func (h *health) succeeded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.succeededLocked()
}

// succeededLocked is succeeded where h.mu is held.
func (h *health) succeededLocked() {
	quiet := !h.since.IsZero() && time.Since(h.since) >= quietOutage
	if h.outage() || h.ownQueryFailed || quiet {
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
	h.suspect.Store(true)
	sameName := func(o dns.Question) bool { return withoutService(o.Name) == withoutService(q.Name) }
	if slices.ContainsFunc(h.questions, sameName) {
		return
	}
	if len(h.questions) == outageNames {
		h.questions = h.questions[1:]
	}
	h.questions = append(h.questions, q)
}

// manyNames reports whether enough different names have failed for the servers to be at fault; h.mu is held.
func (h *health) manyNames() bool { return len(h.questions) == outageNames }

// outage reports whether the servers fail, and not only some names; h.mu is held.
func (h *health) outage() bool {
	return (h.ownQueryFailed || h.manyNames()) && time.Since(h.since) >= minOutage
}

// failingSince returns when the present outage began, and the last reason, or the zero time.
func (h *health) failingSince() (since time.Time, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outage() {
		return h.since, h.reason
	}
	return time.Time{}, ""
}

// withoutService returns the name without the labels in front that begin with an underscore: _mta-sts.example.com fails
// with example.com.
func withoutService(name string) string {
	for strings.HasPrefix(name, "_") {
		_, name, _ = strings.Cut(name, ".")
	}
	return name
}
