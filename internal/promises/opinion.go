package promises

import (
	"context"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Opinion asks a second resolver about the domains whose mail is held. An attacker who forges the answers that reach
// this machine's resolver seldom also forges those that reach a resolver elsewhere, over TLS.
type Opinion struct {
	Store *Store
	// First is the resolver that gave the answers that are held, Second the resolver elsewhere.
	First, Second dns.Resolver

	asked map[string]time.Time // when a domain is due again
}

const (
	// opinionTick is how often Run looks for domains that are due, and opinionsPerTick how many it asks about then.
	opinionTick     = time.Minute
	opinionsPerTick = 20
	// opinionRetry is how long a domain waits after a lookup that failed or that gave another answer.
	opinionRetry = 5 * time.Minute
)

// Run asks about each held domain when the hold begins and at least half an hour later, until ctx ends.
func (o *Opinion) Run(ctx context.Context) error {
	o.asked = map[string]time.Time{}
	tick := time.NewTicker(opinionTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			o.ask(ctx)
		}
	}
}

func (o *Opinion) ask(ctx context.Context) {
	held := o.Store.Holds()
	for domain := range o.asked {
		if !slices.Contains(held, domain) {
			delete(o.asked, domain)
		}
	}
	asked := 0
	for _, domain := range held {
		if time.Now().Before(o.asked[domain]) {
			continue
		}
		if asked++; asked > opinionsPerTick {
			return
		}
		same, err := o.same(ctx, domain)
		if err != nil {
			o.asked[domain] = time.Now().Add(opinionRetry) // it says nothing about the answer
			continue
		}
		o.Store.Agree(domain, same)
		o.asked[domain] = time.Now().Add(opinionRetry)
		if same {
			o.asked[domain] = time.Now().Add(agreeAfter)
		}
	}
}

// same reports whether both resolvers give the same MX hosts and the same MTA-STS record. The error is a failed lookup.
func (o *Opinion) same(ctx context.Context, domain string) (bool, error) {
	for _, q := range []dns.Question{{Name: domain, Type: dns.TypeMX},
		{Name: "_mta-sts." + domain, Type: dns.TypeTXT}} {
		first, err := o.First.Lookup(ctx, q, dns.Effort{})
		if err != nil {
			return false, err
		}
		second, err := o.Second.Lookup(ctx, q, dns.Effort{})
		if err != nil {
			return false, err
		}
		// Equal answers do not confirm that a policy is gone while its record is there: its web server may be blocked.
		unsure := q.Type == dns.TypeTXT && len(second.TXT()) > 0 &&
			slices.Contains(o.Store.Recall(domain).Kinds, MTASTS)
		if unsure || !slices.Equal(content(first), content(second)) {
			return false, nil
		}
	}
	return true, nil
}

// content returns the MX hosts or the texts of an RRset, sorted.
func content(r *dns.RRset) []string {
	c := slices.Clone(r.TXT())
	for _, mx := range r.MX() {
		c = append(c, mx.Host)
	}
	slices.Sort(c)
	return c
}
