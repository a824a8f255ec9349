package gather

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/text"
)

// Budget is how long mail waits for a decision. Callers set it as the deadline of the context.
const Budget = 10 * time.Second

// The time of a decision is shared so that no question takes the time of the others, in whatever order and however fast
// the answers come. The MX RRset, without which nothing is known, gets mxPart of mxOf parts of it. Each other question
// gets timeout: time for one retry by the stub. If the MX question took longer than that, our own resolver is slow, and
// the others get a quarter more than it took.
const (
	timeout      = 3600 * time.Millisecond
	mxPart, mxOf = 6, 10
	countTimeout = time.Second // for questions whose answers only explain a decision
	// briefPart is the part of the time for an MTA-STS policy that a decision can do without. The fetch continues.
	briefPart = 3
)

// Start implements dns.Starter. In a decision from the caches alone, every call has ended, and is noted.
func (g *gathering) Start(ctx context.Context, q dns.Question, by dns.Effort) *dns.Call {
	call := g.Resolver.Start(ctx, q, by)
	switch {
	case !by.CacheOnly:
	case call.Err != nil:
		g.note(time.Unix(0, 0), call.Err)
	default:
		g.note(call.RRset.Expires, nil)
	}
	return call
}

// note records when a fact from a cache expires (zero: never), and whether a fact was not in a cache. Without
// Effort.CacheOnly neither matters.
func (g *gathering) note(expires time.Time, err error) {
	if !g.by.CacheOnly {
		return
	}
	g.uncached = g.uncached || errors.Is(err, dns.ErrNotCached)
	if f := g.facts; !expires.IsZero() && (f.Expires.IsZero() || expires.Before(f.Expires)) {
		f.Expires = expires
	}
}

// mx finds the MX RRset, and with it the hosts.
func (g *gathering) mx() {
	start := time.Now()
	until := start.Add(math.MaxInt64)
	if deadline, ok := g.ctx.Deadline(); ok {
		until = start.Add(deadline.Sub(start) * mxPart / mxOf)
	}
	q := dns.Question{Name: g.facts.Nexthop.Name, Type: dns.TypeMX}
	rrset, err := dns.Ask(g.ctx, g, q, g.by, until)
	took := time.Since(start)
	g.timeout = max(g.timeout, took+took/4)
	if g.uncached {
		return
	}
	g.facts.SetMX(rrset, err)
	for i := range g.facts.Hosts {
		g.facts.Hosts[i].Signed = g.wasSigned(g.facts.Hosts[i].Name)
	}
}

// dane finds the DANE result of a host.
func (g *gathering) dane(i int, port uint16, found *dane.Result) {
	host := g.facts.Hosts[i].Name
	leave, err := g.enter(g.until, i)
	if err != nil {
		*found = dane.Result{State: dane.Failed, Err: err}
		return
	}
	defer leave()
	*found = dane.Lookup(g.ctx, g, dane.Query{Host: host, Port: port, Effort: g.by,
		Signed: g.facts.LikelySigned(i), Timeout: max(time.Until(g.until), 1)})
	g.noteSigned(host, found.Addresses)
}

// addresses finds the addresses of both families of a host, as far as they could be had, and what failed.
func (g *gathering) addresses(until time.Time, i int) (found []netip.Addr, err error) {
	leave, err := g.enter(until, i)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	next := dns.Addresses(ctx, g, g.facts.Hosts[i].Name, g.by, false)
	for range 2 { // families
		call := next(until)
		if call.Err != nil {
			err = errors.Join(err, call.Err)
		} else {
			found = append(found, call.RRset.Addrs()...)
		}
	}
	return found, err
}

// askRecord starts the lookup of the record that announces an MTA-STS policy, once. It gets its time from now on.
func (g *gathering) askRecord() {
	if domain := g.facts.Nexthop.Name; g.record == nil && !g.by.CacheOnly && mtasts.ValidDomain(domain) {
		g.record, g.recordBy = g.Start(g.ctx, mtasts.RecordQuestion(domain), g.by), time.Now().Add(g.timeout)
	}
}

// limit ends the fetching of a policy when its time is over: immediately if the record is late, since the store has a
// live policy then or nothing, and otherwise when timeout has passed since the record was there. A record that came in
// time counts also when other questions have taken more time than it had.
func (g *gathering) limit(ctx context.Context, cancel context.CancelFunc, timeout time.Duration) {
	defer cancel()
	select {
	case <-g.record.Done:
	case <-time.After(time.Until(g.recordBy)):
	case <-ctx.Done():
	}
	if g.record.Ended() {
		select {
		case <-time.After(timeout):
		case <-ctx.Done():
		}
	}
}

// sts finds the domain's MTA-STS policy. If it, or the record that announces it, could not be had in reasonable time,
// and none is cached, the domain counts as one without a policy (RFC 8461 section 3.3).
func (g *gathering) sts(brief bool) {
	f := g.facts
	g.askRecord()
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	if g.record != nil {
		most := g.timeout
		if brief {
			most /= briefPart
		}
		go g.limit(ctx, cancel, most)
	}
	f.STS = g.STS.Lookup(ctx, f.Nexthop.Name, g.by)
	g.note(f.STS.Expires, f.STS.Err)
	g.note(f.STS.RecordExpires, nil)
	if f.STS.State == mtasts.Unknown && ctx.Err() != nil && g.ctx.Err() == nil {
		f.STS.State, f.STS.Why = mtasts.Failed, "no answer in time"
	}
}

// relay finds out whether the next hop is one of Postfix's own relay hosts.
func (g *gathering) relay() {
	own, err := g.Site.RelayHost(g.ctx, g.facts.Nexthop.Name, g.by)
	g.facts.Relay = own && err == nil
	g.note(time.Time{}, err)
}

// receiver finds out whether this site receives the mail of a domain: by its lists, by a name or by an address of one
// of the domain's MX hosts. Every doubt ends in a Receiver that is not known.
func (g *gathering) receiver() {
	f := g.facts
	own, why, err := g.Site.Own(g.ctx, f.Nexthop.Name, g.by)
	g.note(time.Time{}, err)
	switch i := slices.IndexFunc(f.Hosts, func(h policy.Host) bool { return g.Site.OwnHost(h.Name) }); {
	case err != nil:
		why = "whether this site receives it is not known: " + policy.Cause(err)
	case own:
	case i >= 0:
		own, why = true, "the MX host "+text.Name(f.Hosts[i].Name)+" is this host"
	default:
		own, why, err = g.ownAddress()
	}
	f.Receiver = policy.Receiver{Known: err == nil, Here: own, Why: why}
}

// ownAddress looks up the addresses of every MX host that is considered, and reports whether one of them is an address
// of this host. After an error, the answer is not known.
func (g *gathering) ownAddress() (own bool, why string, err error) {
	hosts := g.facts.Hosts
	found, failed := make([][]netip.Addr, len(hosts)), make([]error, len(hosts))
	var fetches []func()
	for i := range hosts {
		fetches = append(fetches, func() { found[i], failed[i] = g.addresses(g.until, i) })
	}
	g.all(fetches)
	for i := range hosts {
		host := text.Name(hosts[i].Name)
		if j := slices.IndexFunc(found[i], g.Site.OwnAddr); j >= 0 {
			return true, "the MX host " + host + " has the address " + found[i][j].String() + " of this host", nil
		}
		if failed[i] != nil {
			why, err = "an address of "+host+" could not be looked up: "+policy.Cause(failed[i]), failed[i]
		}
	}
	return false, why, err
}
