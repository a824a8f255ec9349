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
	nextBackOff  = 5 * time.Minute // after the first; doubled each time
	maxBackOff   = 6 * time.Hour
	// dnsBackOff is for a policy host with addresses that could not be looked up. The resolver backs off by itself, and
	// a fetch must not back off for longer than it does. If another address was tried, it doubles up to firstBackOff.
	dnsBackOff = 2 * time.Second
	// otherBackOff is for another id than the one whose policy could not be fetched, so that a repaired policy with a
	// new id is fetched soon.
	otherBackOff     = 15 * time.Second
	failureForgotten = 24 * time.Hour // how long after its back-off a failure still counts for the next one
	maxFailures      = 10_000
)

// failure is a fetch that failed.
type failure struct {
	id        string
	err       *mtasts.Error
	first     time.Time     // when the fetches began to fail
	at, retry time.Time     // when this one failed, and when the next may begin
	backOff   time.Duration // the back-off before a live policy or the jitter shortened it
}

// failures remembers the fetches that failed, by domain, so that not every message causes another.
type failures struct{ *statedb.Table[failure] }

// holds returns the failure that keeps the policy with this id from being fetched now, or nil.
func (f failures) holds(domain, id string, now time.Time) *mtasts.Error {
	last := f.Get(domain)
	if !now.Before(last.retry) || last.id != id && !now.Before(last.at.Add(otherBackOff)) {
		return nil
	}
	return last.err
}

// add remembers that a policy could not be fetched, and returns when the fetches for the domain began to fail. With a
// live policy, the next attempt comes within a quarter of its remaining time, or within a minute if that is more.
func (f failures) add(w want, err *mtasts.Error, now time.Time) (first time.Time) {
	f.Lock()
	defer f.Unlock()
	least, next, most := firstBackOff, nextBackOff, maxBackOff
	if _, lookup := errors.AsType[*dns.Error](err); lookup {
		least, next, most = dnsBackOff, dnsBackOff, dnsBackOff
		if err.Addr.IsValid() {
			most = firstBackOff
		}
	}
	n := failure{id: w.id, err: err, first: now, at: now, backOff: least}
	if last := f.Records[w.domain]; now.Before(last.retry.Add(failureForgotten)) {
		n.first, n.backOff = last.first, min(max(2*last.backOff, next), most)
	}
	wait := n.backOff
	if w.have.live(now) {
		quarter := w.have.expires.Sub(now) / 4 // a quarter of the time for which the policy is still live
		wait = min(wait, max(quarter, firstBackOff))
	}
	jitter := rand.N(wait / 10)
	n.retry = now.Add(wait - jitter)
	f.Put(w.domain, n)
	return n.first
}
