package stsstore

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/statedb"
)

const (
	firstBackOff = time.Minute
	nextBackOff  = 5 * time.Minute // doubling
	// dnsBackOff is for a policy host with addresses that could not be looked up. The resolver backs off by itself, and
	// a fetch must not back off for longer than it does. If another address was tried, it doubles up to firstBackOff.
	dnsBackOff = 2 * time.Second
	maxBackOff = 6 * time.Hour
	// otherBackOff is for another id than the one whose policy could not be fetched, so that a repaired policy with a
	// new id is fetched soon.
	otherBackOff  = 15 * time.Second
	failureMemory = 24 * time.Hour // how long after its back-off a failure still counts for the next one
	maxFailures   = 10_000
)

// failure is a fetch that failed.
type failure struct {
	id        string
	err       *mtasts.Error
	first     time.Time // when the fetches began to fail
	at, retry time.Time
	step      time.Duration
}

// failures remembers the fetches that failed, by domain, so that not every message causes another.
type failures struct{ *statedb.Table[failure] }

func newFailures() failures {
	return failures{statedb.New(statedb.Options[failure]{
		Max: maxFailures, Age: func(last failure) int64 { return last.retry.Unix() },
	})}
}

// holds returns the failure because of which the policy that id announces must not be fetched now.
func (f failures) holds(domain, id string, now time.Time) (failure, bool) {
	last := f.Get(domain)
	if !now.Before(last.retry) || last.id != id && !now.Before(last.at.Add(otherBackOff)) {
		return failure{}, false
	}
	return last, true
}

// add remembers a failure, and returns when the fetches for the domain began to fail. With a live policy, which ends at
// expires, the next attempt comes well before that.
func (f failures) add(err *mtasts.Error, id string, now, expires time.Time) (first time.Time) {
	f.Lock()
	defer f.Unlock()
	least, next, most := firstBackOff, nextBackOff, maxBackOff
	if _, lookup := errors.AsType[*dns.Error](err); lookup {
		least, next, most = dnsBackOff, dnsBackOff, dnsBackOff
		if err.Addr.IsValid() {
			most = firstBackOff
		}
	}
	n := failure{id: id, err: err, first: now, at: now, step: least}
	if last := f.Records[err.Domain]; now.Before(last.retry.Add(failureMemory)) {
		n.first, n.step = last.first, min(max(2*last.step, next), most)
	}
	wait := n.step
	if now.Before(expires) {
		const tries = 4
		wait = max(min(wait, expires.Sub(now)/tries), firstBackOff)
	}
	const jitter = 10
	n.retry = now.Add(wait - rand.N(wait/jitter))
	f.Put(err.Domain, n)
	return n.first
}

// forget removes the failure of a domain, and reports whether there was one.
func (f failures) forget(domain string) bool {
	f.Lock()
	defer f.Unlock()
	return f.Delete(domain)
}
