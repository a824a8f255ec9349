package dane

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// Lookup finds out what DANE says of a host and port. It costs three queries: A and
// AAAA, side by side where that saves time, then TLSA if one of the two is secure. An alias can cost one
// more: type CNAME where the addresses are insecure, or TLSA at the second name.
//
// A lookup that fails is a Result and not an error. The only error is
// dns.ErrNotCached, from a resolver that may not ask: the Result is then
// Unknown; ask again with one that may.
func Lookup(ctx context.Context, res dns.Resolver, q Query) (Result, error) {
	s := search{resolver: res, query: q}
	s.query.Host = strings.ToLower(strings.TrimSuffix(q.Host, "."))
	if !prefix.ValidHost(s.query.Host) {
		// No MTA connects to it, so it must not weaken what the other hosts of the domain get.
		return Result{State: Unreachable, Why: "not a host name"}, nil
	}
	found, err := s.addresses(ctx)
	if err != nil {
		return Result{}, err
	}
	best := found.best()
	if best == nil {
		return found.without(s.query.Host), nil
	}
	names, result, err := s.candidates(ctx, best)
	if err == nil && len(names) > 0 {
		result, err = s.tlsa(ctx, names)
	}
	if err != nil {
		return Result{}, err
	}
	result.Addresses = best.Status
	return result, nil
}

// search is one Lookup under way.
type search struct {
	resolver dns.Resolver
	query    Query // Host in lower case without the final dot
}

func (s search) ask(ctx context.Context, name string, t dns.Type) (*dns.RRset, error) {
	return s.resolver.Lookup(ctx, dns.Question{Name: name, Type: t}, s.query.Effort)
}

// addresses are the answers to the A and the AAAA lookup: an RRset or the error in its place.
type addresses struct {
	rrsets [2]*dns.RRset
	errs   [2]error
}

// addresses looks up A and AAAA. "The SMTP client MUST perform any A and/or AAAA queries for the
// destination before attempting to locate the associated TLSA records" (RFC 7672 section 2.2.2): name
// servers that choke on TLSA questions are in unsigned zones. The error is dns.ErrNotCached.
func (s search) addresses(ctx context.Context) (addresses, error) {
	if s.query.Waits {
		return s.sideBySide(ctx)
	}
	var a addresses
	for i, t := range [...]dns.Type{dns.TypeA, dns.TypeAAAA} {
		a.rrsets[i], a.errs[i] = s.ask(ctx, s.query.Host, t)
		if errors.Is(a.errs[i], dns.ErrNotCached) {
			return a, a.errs[i]
		}
	}
	return a, nil
}

// sideBySide does what addresses does in the time of one lookup.
func (s search) sideBySide(ctx context.Context) (addresses, error) {
	var a addresses
	var group errgroup.Group
	group.Go(func() error {
		a.rrsets[1], a.errs[1] = s.ask(ctx, s.query.Host, dns.TypeAAAA)
		return nil
	})
	a.rrsets[0], a.errs[0] = s.ask(ctx, s.query.Host, dns.TypeA)
	_ = group.Wait() // the failures are facts
	for _, err := range a.errs {
		if errors.Is(err, dns.ErrNotCached) {
			return a, err
		}
	}
	return a, nil
}

// best returns the answer that says where TLSA records may be, nil if there is no address. One of the two
// lookups suffices: were both needed, who can make one of them fail could turn DANE off. For the same reason
// a secure answer outweighs an insecure one. Of two insecure ones, an alias is looked into.
func (a addresses) best() *dns.RRset {
	var best *dns.RRset
	for i, r := range a.rrsets {
		if a.errs[i] != nil || len(r.Addrs) == 0 {
			continue
		}
		if best == nil || r.Status > best.Status || r.Status == best.Status && isAlias(r) && !isAlias(best) {
			best = r
		}
	}
	return best
}

func isAlias(r *dns.RRset) bool { return r.Owner != r.Name }

// without is the result for a host of which no address was found.
func (a addresses) without(host string) Result {
	for i, err := range a.errs {
		if err != nil {
			t := [...]dns.Type{dns.TypeA, dns.TypeAAAA}[i]
			return Result{State: Failed, Err: err, Why: t.String() + " lookup for " + host + " failed: " + reason(err)}
		}
	}
	return Result{State: Unreachable, Why: "no address"}
}

// candidates returns the TLSA base domains to try, best first, by the cases of RFC 7672 section 2.2.2. Names between
// the two ends of a chain of aliases are never among them. Where there are none, Result says what that means.
func (s search) candidates(ctx context.Context, addrs *dns.RRset) ([]string, Result, error) {
	original := s.query.Host
	switch secure := addrs.Status == dns.Secure; {
	case secure && isAlias(addrs):
		return []string{addrs.Owner, original}, Result{}, nil
	case secure:
		return []string{original}, Result{}, nil
	case !isAlias(addrs):
		return nil, Result{State: Absent, Why: "its addresses are not signed"}, nil
	}
	// "If the initial CNAME response is also insecure, DANE TLS does not apply." Whether it is cannot be told
	// from the answer to an address question: its status is that of the whole chain.
	cname, err := s.ask(ctx, original, dns.TypeCNAME)
	switch {
	case errors.Is(err, dns.ErrNotCached):
		return nil, Result{}, err
	case err != nil:
		return nil, Result{State: Failed, Err: err, Why: "CNAME lookup for " + original + " failed: " + reason(err)}, nil
	case cname.Status != dns.Secure:
		return nil, Result{State: Absent, Why: "its alias and its addresses are not signed"}, nil
	}
	return []string{original}, Result{}, nil
}

// tlsa looks for a secure TLSA RRset at one base domain after the other; the first that has one wins, even where
// none of its records can be used. "If any DNS queries used to locate TLSA records fail, then the SMTP client
// MUST treat that server as unreachable" (RFC 7672 section 2.1.2): a failure is no denial.
func (s search) tlsa(ctx context.Context, names []string) (Result, error) {
	none := Result{State: Absent, Why: "no TLSA records"}
	for _, base := range names {
		owner := "_" + strconv.Itoa(int(s.query.Port)) + "._tcp." + base
		if tooLong(owner) {
			continue
		}
		r, err := s.ask(ctx, owner, dns.TypeTLSA)
		switch {
		case errors.Is(err, dns.ErrNotCached):
			return Result{}, err
		case err != nil:
			return Result{State: Failed, Err: err, Why: "TLSA lookup at " + owner + " failed: " + reason(err)}, nil
		case r.Status != dns.Secure:
			none.Why = "the TLSA records or their denial at " + owner + " are not signed"
		case len(r.TLSA) > 0:
			return judge(r.TLSA, base, owner), nil
		}
	}
	return none, nil
}

// tooLong says that a name cannot exist, so that no record can be there (RFC 1035 section 2.3.4). A
// name with escapes is shorter than it looks; the resolver judges those.
func tooLong(name string) bool {
	return len(name) > 253 && !strings.Contains(name, `\`)
}

// judge says what a secure TLSA RRset means.
func judge(records []dns.TLSA, base, owner string) Result {
	r := Result{State: Unusable, Base: base, Records: records}
	n := 0
	for _, record := range records {
		if usable(record) {
			n++
		}
	}
	if n > 0 {
		r.State = Usable
	}
	r.Why = fmt.Sprintf("TLSA records at %s: %d, usable: %d", owner, len(records), n)
	return r
}

// reason is what failed, for people.
func reason(err error) string {
	if failed, ok := errors.AsType[*dns.Error](err); ok {
		return failed.Reason
	}
	return text.Printable(err.Error())
}
