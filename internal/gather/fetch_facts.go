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

// A slow query must not use up the time of the others, in whatever order and however fast the answers arrive. The MX
// RRset, without which nothing else can be asked, gets mxPercent of the time until the deadline. Every later query gets
// questionTimeout, which is enough for one retry by the stub, or a quarter more than the MX query took if that is more:
// the resolver is then slow.
const (
	questionTimeout = 3600 * time.Millisecond
	mxPercent       = 60
	countTimeout    = time.Second // time for questions whose answers only explain a decision
	// briefDivisor shortens the wait for a policy that a decision can do without (policy.Need.Brief) to a third of the
	// usual time. The store continues the fetch.
	briefDivisor = 3
)

// Start implements dns.Starter. With Effort.CacheOnly the call has already ended, so its result is noted here.
func (g *gathering) Start(ctx context.Context, q dns.Question, effort dns.Effort) *dns.Call {
	call := g.Resolver.Start(ctx, q, effort)
	if effort.CacheOnly {
		expires := time.Unix(0, 0) // a failure: policy.Facts.Expires is in the past
		if call.Err == nil {
			expires = call.RRset.Expires
		}
		g.noteCached(expires, call.Err)
	}
	return call
}

// noteCached records when a fact from a cache expires (zero: never), and whether it was not in the cache (err is
// dns.ErrNotCached). Without Effort.CacheOnly neither matters.
func (g *gathering) noteCached(expires time.Time, err error) {
	if !g.effort.CacheOnly {
		return
	}
	if errors.Is(err, dns.ErrNotCached) {
		g.uncached = true
	}
	first := &g.facts.Expires
	if !expires.IsZero() && (first.IsZero() || expires.Before(*first)) {
		*first = expires
	}
}

// mx finds the MX RRset, and with it the hosts.
func (g *gathering) mx() {
	start := time.Now()
	until := start.Add(math.MaxInt64)
	if deadline, ok := g.ctx.Deadline(); ok {
		until = start.Add(deadline.Sub(start) * mxPercent / 100)
	}
	q := dns.Question{Name: g.facts.Nexthop.Name, Type: dns.TypeMX}
	rrset, err := dns.Ask(g.ctx, g, q, g.effort, until)
	took := time.Since(start)
	g.timeout = max(g.timeout, took+took/4)
	if g.uncached {
		return
	}
	g.facts.SetMX(rrset, err)
	for i := range g.facts.Hosts {
		host := &g.facts.Hosts[i]
		host.Signed = g.wasSigned(host.Name)
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
	*found = dane.Lookup(g.ctx, g, dane.Query{Host: host, Port: port, Effort: g.effort,
		Signed: g.facts.LikelySigned(i), Timeout: max(time.Until(g.until), 1)})
	g.noteSigned(host, found.Addresses)
}

// addresses finds the addresses of both families of a host, as far as they could be looked up, and what failed.
func (g *gathering) addresses(until time.Time, i int) (found []netip.Addr, err error) {
	leave, err := g.enter(until, i)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	lookup := dns.StartAddresses(ctx, g, g.facts.Hosts[i].Name, g.effort, dns.BothFamilies)
	for range 2 { // address families
		answer := lookup.Next(until)
		if answer.Err != nil {
			err = errors.Join(err, answer.Err)
		} else {
			found = append(found, answer.RRset.Addrs()...)
		}
	}
	return found, err
}

// askRecord starts the lookup of the record that announces an MTA-STS policy, once. Its time begins now.
func (g *gathering) askRecord() {
	domain := g.facts.Nexthop.Name
	if g.record == nil && !g.effort.CacheOnly && mtasts.ValidDomain(domain) {
		g.record = g.Start(g.ctx, mtasts.RecordQuestion(domain), g.effort)
		g.recordBy = time.Now().Add(g.timeout)
	}
}

// sts finds the domain's MTA-STS policy. If the policy, or the record that announces it, could not be obtained in time,
// and no policy is stored, the domain counts as one without a policy (RFC 8461 section 3.3). If brief is set, it waits
// for less time.
//
// The store looks up the same record, and so joins g.record in the cache. cancelLate uses g.record only to limit how
// long the record and then the fetch take.
func (g *gathering) sts(brief bool) {
	f := g.facts
	g.askRecord()
	ctx, cancel := context.WithCancel(g.ctx)
	defer cancel()
	if g.record != nil {
		fetchTimeout := g.timeout
		if brief {
			fetchTimeout /= briefDivisor
		}
		go g.cancelLate(ctx, cancel, fetchTimeout)
	}
	f.STS = g.STS.Lookup(ctx, f.Nexthop.Name, g.effort)
	g.noteCached(f.STS.Expires, f.STS.Err)
	g.noteCached(f.STS.RecordExpires, nil)
	if f.STS.State == mtasts.Unknown && ctx.Err() != nil && g.ctx.Err() == nil {
		f.STS.State, f.STS.Why = mtasts.Failed, "no answer in time"
	}
}

// cancelLate cancels the lookup of a policy: when the record has not arrived by recordBy, since the store then has a
// live policy or nothing, and otherwise when fetchTimeout has passed since it arrived. A record that has arrived counts
// even after recordBy, because it may have been asked for in an earlier step.
func (g *gathering) cancelLate(ctx context.Context, cancel context.CancelFunc, fetchTimeout time.Duration) {
	defer cancel()
	select {
	case <-g.record.Done:
	case <-time.After(time.Until(g.recordBy)):
	case <-ctx.Done():
	}
	if !g.record.Ended() {
		return
	}
	select {
	case <-time.After(fetchTimeout):
	case <-ctx.Done():
	}
}

// relay finds out whether the next hop is one of Postfix's own relay hosts.
func (g *gathering) relay() {
	own, err := g.Site.RelayHost(g.ctx, g.facts.Nexthop.Name, g.effort)
	g.facts.Relay = own && err == nil
	g.noteCached(time.Time{}, err)
}

// validates finds out whether the resolver validates now. A test that does not end in time does not count against it.
func (g *gathering) validates() {
	if g.Validates == nil {
		g.facts.Validates = true
		return
	}
	ctx, cancel := context.WithDeadline(g.ctx, g.until)
	defer cancel()
	passed, err := g.Validates(ctx, g.effort)
	g.facts.Validates = passed || err != nil
	g.noteCached(time.Time{}, err)
}

// receiver finds out whether this site receives the mail of a domain: by its lists, by a name or by an address of one
// of the domain's MX hosts. The Receiver is not known if the lists cannot be read, or if an address cannot be looked up
// and no other address is one of this host.
func (g *gathering) receiver() {
	own, why, err := g.receives()
	g.facts.Receiver = policy.Receiver{Known: err == nil, Here: own, Why: why}
}

func (g *gathering) receives() (own bool, why string, err error) {
	own, why, err = g.Site.Own(g.ctx, g.facts.Nexthop.Name, g.effort)
	g.noteCached(time.Time{}, err)
	if err != nil {
		return own, "whether this site receives it is not known: " + policy.Cause(err), err
	}
	if own {
		return true, why, nil
	}
	for i := range g.facts.Hosts {
		name := g.facts.Hosts[i].Name
		if g.Site.OwnHost(name) {
			return true, "the MX host " + text.Name(name) + " is this host", nil
		}
	}
	return g.ownAddress()
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
