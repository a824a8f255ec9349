package dane

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/prefix"
)

// secondFamily is how much longer one address family may take, once the other one has an address.
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
	addresses := dns.StartAddresses(ctx, res, q.Host, q.Effort, families)
	until := time.Now().Add(q.Timeout)
	// "The SMTP client MUST perform any A and/or AAAA queries for the destination before attempting to locate the
	// associated TLSA records" (RFC 7672 section 2.2.2). One address family is enough.
	var first *dns.RRset // the first answer with an address
	result := Result{State: Unreachable, Why: "no address"}
	for range 2 { // address families
		answer := addresses.Next(until)
		if errors.Is(answer.Err, dns.ErrNotCached) {
			return Result{Err: answer.Err}
		}
		if answer.Err != nil {
			if first == nil && result.Err == nil {
				result = failed(answer.Question.Type.String()+" lookup for "+q.Host, answer.Err)
			}
			continue
		}
		if len(answer.RRset.Addrs()) == 0 {
			continue
		}
		if first != nil {
			if secondDecides(first, answer.RRset) {
				result = s.resultFor(ctx, answer.RRset)
			}
			break
		}
		arrived := time.Now()
		first = answer.RRset
		result = s.resultFor(ctx, first)
		if firstDecides(first, result) {
			break
		}
		if end := s.secondDeadline(answer.Question.Type, arrived); end.Before(until) {
			until = end
		}
	}
	return result
}

// firstDecides reports whether the answer for the other address family cannot change the result of the first one.
func firstDecides(first *dns.RRset, result Result) bool {
	switch result.State {
	case Unknown, Usable, Unusable: // an answer is not cached, or there are secure TLSA records
		return true
	case Failed:
		return first.Status == dns.Secure
	default: // if it is no alias, both families have the same TLSA base domain
		return first.Status == dns.Secure && !isAlias(first)
	}
}

// secondDecides reports whether the second answer with an address decides in place of the first.
//
// The answers for both families normally have the same status and the same name at the end of a chain of aliases. They
// differ for a while when a zone is being signed, or when an alias leads each family to another name. Then a secure
// answer decides, whichever arrived first. If both are insecure, an alias decides: its initial CNAME can be secure.
//
// If the lookup for one family fails or is late, the answer for the other decides alone. If that answer is secure, an
// attacker who blocks one of the two lookups cannot turn DANE off. If it is insecure, the name is not signed.
func secondDecides(first, second *dns.RRset) bool {
	return second.Status == dns.Secure || first.Status != dns.Secure && !isAlias(first)
}

// secondDeadline returns until when Lookup waits for the answer of the second family, after one of type t has arrived.
func (s *search) secondDeadline(t dns.Type, arrived time.Time) time.Time {
	end := arrived.Add(secondFamily)
	if now := time.Now(); end.Before(now) { // following up the first answer took longer than that
		end = now
	}
	if s.query.Signed && t == dns.TypeA { // AAAA was asked for after A
		end = end.Add(dns.HeadStart)
	}
	return end
}
