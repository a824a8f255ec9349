package dane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// secondFamily is how long an address family may take longer than the other, once that has an address.
const secondFamily = time.Second

// Lookup determines the DANE state of a host and port. It costs two or three queries: for the addresses, and for TLSA
// records if the addresses are secure. An alias can cost more. With Effort.CacheOnly the Result is Unknown, and its Err
// dns.ErrNotCached, if an answer is not cached: ask again without it.
func Lookup(ctx context.Context, res dns.Starter, q Query) Result {
	q.Host = strings.ToLower(strings.TrimSuffix(q.Host, "."))
	if !prefix.ValidHost(q.Host) {
		// Postfix does not connect to it, so it must not weaken what the other hosts of the domain get.
		return Result{State: Unreachable, Why: "not a host name"}
	}
	q.Timeout = cmp.Or(q.Timeout, math.MaxInt64)
	s := &search{resolver: res, query: q}
	families := dns.BothFamilies
	if q.Signed {
		families = dns.OneIsEnough
	}
	addresses, until := dns.StartAddresses(ctx, res, q.Host, q.Effort, families), time.Now().Add(q.Timeout)
	// "The SMTP client MUST perform any A and/or AAAA queries for the destination before attempting to locate the
	// associated TLSA records" (RFC 7672 section 2.2.2). One address family is enough.
	var first *dns.RRset // the first answer with an address
	r := Result{State: Unreachable, Why: "no address"}
	for range 2 { // families
		call := addresses.Next(until)
		switch {
		case errors.Is(call.Err, dns.ErrNotCached):
			return Result{Err: call.Err}
		case call.Err != nil && first == nil && r.Err == nil:
			r = failed(call.Question.Type.String()+" lookup for "+q.Host, call.Err)
		case call.Err != nil || len(call.RRset.Addrs()) == 0:
		case first == nil:
			arrived := time.Now()
			first, r = call.RRset, s.family(ctx, call.RRset)
			same := first.Status == dns.Secure && (r.State == Failed || !isAlias(first)) // the other cannot matter
			if same || r.State == Unknown || r.State == Usable || r.State == Unusable {
				return r
			}
			// The answer for the other family may be signed, or lead to another name. An attacker who can block one of
			// the two lookups must not be able to turn DANE off, so a secure answer outweighs an insecure one.
			left := max(secondFamily-time.Since(arrived), 0)
			if q.Signed && call.Question.Type == dns.TypeA { // AAAA was asked for after A
				left += dns.HeadStart
			}
			if soon := time.Now().Add(left); soon.Before(until) {
				until = soon
			}
		case call.RRset.Status == dns.Secure || first.Status != dns.Secure && !isAlias(first):
			return s.family(ctx, call.RRset)
		}
	}
	return r
}

// failed returns the Result of a lookup that failed. That an answer is not cached says nothing about the host.
func failed(what string, err error) Result {
	if errors.Is(err, dns.ErrNotCached) {
		return Result{Err: err}
	}
	return Result{State: Failed, Err: err, Why: what + " failed: " + text.Printable(dns.Reason(err))}
}

// TLSAQuestion asks for the TLSA records of a base domain and port.
func TLSAQuestion(base string, port uint16) dns.Question {
	return dns.Question{Name: "_" + strconv.Itoa(int(port)) + "._tcp." + base, Type: dns.TypeTLSA}
}

// search is one Lookup in progress.
type search struct {
	resolver dns.Starter
	query    Query // Host in lower case without the final dot
}

func (s *search) ask(ctx context.Context, q dns.Question) (*dns.RRset, error) {
	return dns.Ask(ctx, s.resolver, q, s.query.Effort, time.Now().Add(s.query.Timeout))
}

func isAlias(r *dns.RRset) bool { return r.Owner != r.Name }

// family returns what follows from the addresses of one family.
func (s *search) family(ctx context.Context, addrs *dns.RRset) Result {
	names, r := s.candidates(ctx, addrs)
	if len(names) > 0 {
		r = s.tlsa(ctx, names)
	}
	if r.State != Unknown {
		r.Addresses = addrs.Status
	}
	return r
}

// candidates returns the TLSA base domains to try, best first, by the cases of RFC 7672 section 2.2.2. Names between
// the two ends of a chain of aliases are never among them. If there are none, the Result says what that means.
func (s *search) candidates(ctx context.Context, addrs *dns.RRset) ([]string, Result) {
	original := s.query.Host
	switch secure := addrs.Status == dns.Secure; {
	case secure && isAlias(addrs):
		return []string{addrs.Owner, original}, Result{}
	case secure:
		return []string{original}, Result{}
	case !isAlias(addrs):
		return nil, Result{State: Absent, Why: "its addresses are not signed"}
	}
	// "If the initial CNAME response is also insecure, DANE TLS does not apply." The answer to an address question does
	// not show whether it is: its status is that of the whole chain.
	cname, err := s.ask(ctx, dns.Question{Name: original, Type: dns.TypeCNAME})
	switch {
	case err != nil:
		return nil, failed("CNAME lookup for "+original, err)
	case cname.Status != dns.Secure:
		return nil, Result{State: Absent, Why: "its alias and its addresses are not signed"}
	}
	return []string{original}, Result{}
}

// tlsa looks for a secure TLSA RRset at one base domain after the other. The first that has one wins, even where none
// of its records can be used. "If any DNS queries used to locate TLSA records fail, then the SMTP client MUST treat
// that server as unreachable" (RFC 7672 section 2.1.2): a failure is not a denial.
func (s *search) tlsa(ctx context.Context, names []string) Result {
	none := Result{State: Absent, Why: "no TLSA records"}
	for _, base := range names {
		q := TLSAQuestion(base, s.query.Port)
		// A name of more octets cannot exist (RFC 1035 section 2.3.4). With escapes it is shorter than it looks.
		if len(q.Name) > 253 && !strings.Contains(q.Name, `\`) {
			continue
		}
		r, err := s.ask(ctx, q)
		switch {
		case err != nil:
			return failed("TLSA lookup at "+q.Name, err)
		case r.Status != dns.Secure:
			none.Why = "the TLSA records or their denial at " + q.Name + " are not signed"
		case len(r.TLSA()) > 0:
			return judge(r.TLSA(), q.Name)
		}
	}
	return none
}

// judge returns the meaning of a secure TLSA RRset.
func judge(records []dns.TLSA, owner string) Result {
	state, n := Unusable, 0
	for _, record := range records {
		if usable(record) {
			state, n = Usable, n+1
		}
	}
	why := fmt.Sprintf("TLSA records at %s: %d, usable: %d", owner, len(records), n)
	return Result{State: state, Records: records, Why: why}
}
