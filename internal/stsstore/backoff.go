package stsstore

import (
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

const (
	firstBackOff = time.Minute
	nextBackOff  = 5 * time.Minute // doubling
	// dnsBackOff is for a policy host whose addresses could not be looked up: doubling up to firstBackOff, because the resolver
	// can be well again soon, and remembers by itself what has failed.
	dnsBackOff = 2 * time.Second
	maxBackOff = 6 * time.Hour
	// otherBackOff is for an id other than the one whose policy could not be fetched: who repairs a
	// policy and announces it need not wait for the end of the back-off.
	otherBackOff = 15 * time.Second
	// failureMemory is how long after its back-off a failure still counts for the next one.
	failureMemory = 24 * time.Hour
	maxFailures   = 10_000
)

// failure is a fetch that failed.
type failure struct {
	id        string
	err       *mtasts.Error
	at, retry time.Time
	step      time.Duration
}

// failures remembers the fetches that failed, so that not every message costs another.
type failures struct {
	mu   sync.RWMutex
	list map[string]failure
}

func newFailures() *failures { return &failures{list: map[string]failure{}} }

// holds returns the failure that forbids to fetch the policy that id announces.
func (f *failures) holds(domain, id string, now time.Time) (failure, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	last, ok := f.list[domain]
	if !ok || !now.Before(last.retry) || last.id != id && !now.Before(last.at.Add(otherBackOff)) {
		return failure{}, false
	}
	return last, true
}

// held says that a policy is not to be renewed now.
func (f *failures) held(e *entry, now time.Time) bool {
	_, held := f.holds(e.domain, e.id, now)
	return held
}

// add notes a failure. With a live policy, which ends at expires, it is tried again well before that.
func (f *failures) add(err *mtasts.Error, id string, now, expires time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first, next, most := firstBackOff, nextBackOff, maxBackOff
	if _, dns := errors.AsType[*dns.Error](err); dns {
		first, next, most = dnsBackOff, dnsBackOff, firstBackOff
	}
	n := failure{id: id, err: err, at: now, step: first}
	if last, ok := f.list[err.Domain]; ok {
		n.step = min(max(2*last.step, next), most)
	} else if len(f.list) >= maxFailures {
		f.makeRoom(now)
	}
	wait := n.step
	if now.Before(expires) {
		const tries = 4
		wait = max(min(wait, expires.Sub(now)/tries), firstBackOff)
	}
	const jitter = 10
	n.retry = now.Add(wait - rand.N(wait/jitter))
	f.list[err.Domain] = n
}

// makeRoom removes what has been waited for, or else any one; f.mu is held.
func (f *failures) makeRoom(now time.Time) {
	for domain, last := range f.list {
		if !now.Before(last.retry) {
			delete(f.list, domain)
		}
	}
	for domain := range f.list {
		if len(f.list) < maxFailures {
			return
		}
		delete(f.list, domain)
	}
}

// forget removes the failure of a domain whose policy could be fetched.
func (f *failures) forget(domain string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.list[domain]
	delete(f.list, domain)
	return ok
}

// sweep removes failures that count no more.
func (f *failures) sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for domain, last := range f.list {
		if now.After(last.retry.Add(failureMemory)) {
			delete(f.list, domain)
		}
	}
}

// all returns what is remembered.
func (f *failures) all() map[string]failure {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.list)
}
