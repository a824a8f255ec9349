package promises

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// SecondOpinion asks a second resolver about the domains whose mail is held. An attacker who forges the answers that
// reach this machine's resolver seldom also forges those that reach a resolver elsewhere, over TLS.
type SecondOpinion struct {
	Store *Store
	// First is the resolver that gave the answers that are held, Second the resolver elsewhere.
	First, Second dns.Resolver

	due map[string]time.Time // when to ask about a domain again
}

const (
	// opinionInterval is how often Run looks for domains that are due, and maxOpinions how many it asks about then.
	opinionInterval = time.Minute
	maxOpinions     = 20
	// opinionRetry is how long a domain waits after a lookup that failed or that gave another answer.
	opinionRetry = 5 * time.Minute
)

// Run asks about each held domain when the hold begins and at least half an hour later, until ctx ends.
func (o *SecondOpinion) Run(ctx context.Context) error {
	o.due = map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(opinionInterval):
			o.ask(ctx)
		}
	}
}

func (o *SecondOpinion) ask(ctx context.Context) {
	held := o.Store.Holds()
	maps.DeleteFunc(o.due, func(domain string, _ time.Time) bool { return !slices.Contains(held, domain) })
	due := slices.DeleteFunc(held, func(domain string) bool { return time.Now().Before(o.due[domain]) })
	for _, domain := range due[:min(len(due), maxOpinions)] {
		wait := opinionRetry
		if same, err := o.same(ctx, domain); err == nil { // a failed lookup says nothing about the answer
			o.Store.Agree(domain, same)
			if same {
				wait = agreeAfter
			}
		}
		o.due[domain] = time.Now().Add(wait)
	}
}

// same reports whether both resolvers give the same MX hosts and the same MTA-STS record. The error is a failed lookup.
func (o *SecondOpinion) same(ctx context.Context, domain string) (bool, error) {
	record := dns.Question{Name: "_mta-sts." + domain, Type: dns.TypeTXT}
	for _, q := range []dns.Question{{Name: domain, Type: dns.TypeMX}, record} {
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
			slices.Contains(o.Store.History(domain).Kinds, MTASTS)
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
