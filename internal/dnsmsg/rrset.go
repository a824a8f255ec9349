package dnsmsg

import (
	"cmp"
	"encoding/hex"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

const longestTTL = math.MaxUint32 * time.Second

// RRset returns what the answer to a query says, and its TTL. Only the CNAME chain from the name of the query and the
// RRset at its end count. Trusted means that the AD bit counts. The error is a *dns.Error. An answer that contradicts
// itself or the protocol is an error, never a denial. The caller sets Expires, and the Epoch of the RRset or the error.
func (a *Answer) RRset(q Query, trusted bool) (*dns.RRset, time.Duration, error) {
	asked, m := q.Question(), &a.msg
	fail := func(reason string) (*dns.RRset, time.Duration, error) {
		return nil, 0, &dns.Error{Question: asked, Reason: reason}
	}
	ede, bogus, stale := a.extended()
	if !a.Useful() {
		return nil, 0, &dns.Error{Question: asked, Reason: a.Rcode().String() + ede, Bogus: bogus}
	}
	chain, ttl := follow(m.Answer, q.Name, q.Type)
	if chain == nil {
		return fail("CNAME loop, chain of over 16, or two CNAME records at a name")
	}
	owner := chain[len(chain)-1]
	r := &dns.RRset{Name: asked.Name, Owner: dns.TrimRoot(owner), Type: q.Type, Status: dns.Insecure, Stale: stale,
		NXDomain: m.Rcode == miekg.RcodeNameError}
	if trusted && a.AuthenticatedData() {
		r.Status = dns.Secure
	}
	foreign := false // there is a record that does not belong to the answer
	for _, rr := range m.Answer {
		h := rr.Header()
		switch {
		case h.Class == miekg.ClassINET && h.Rrtype == uint16(q.Type) && h.Name == owner:
			if !add(r, rr) {
				return fail("malformed " + q.Type.String() + " record")
			}
			ttl = min(ttl, seconds(h.Ttl))
		case h.Rrtype == miekg.TypeCNAME && slices.Contains(chain[:len(chain)-1], h.Name): // a part of the chain
		case h.Rrtype == miekg.TypeDNAME: // above the end of the chain, its CNAME is missing (RFC 6672 section 3.1)
			foreign = foreign || h.Name != owner && miekg.IsSubDomain(h.Name, owner)
		case h.Rrtype != miekg.TypeRRSIG:
			foreign = true
		}
	}
	switch {
	case !r.Empty() && r.NXDomain:
		return fail("NXDOMAIN with records of the name")
	case !r.Empty(): // other records do not matter
	case foreign: // records of other names are not a denial
		return fail("the answer is for another name or type")
	case !r.NXDomain && referral(m.Ns):
		return fail("a referral to other servers: the server is not a resolver")
	default:
		ttl = min(ttl, negativeTTL(m.Ns, owner))
	}
	normalise(r)
	return r, ttl, nil
}

// follow returns the names of the CNAME chain that begins at name, name included, and the smallest TTL on the way. It
// returns nil for a loop, a chain that is too long, and two targets for a name. For type CNAME it follows nothing.
func follow(answer []miekg.RR, name string, t dns.Type) (chain []string, ttl time.Duration) {
	chain, ttl = []string{name}, longestTTL
	const longest = 16 // CNAME records
	for range longest + 1 {
		var target string
		for _, rr := range answer {
			c, is := rr.(*miekg.CNAME)
			if !is || t == dns.TypeCNAME || c.Hdr.Class != miekg.ClassINET || c.Hdr.Name != name {
				continue
			}
			to := dns.Lower(c.Target)
			if to == "" || target != "" && target != to {
				return nil, 0
			}
			target, ttl = to, min(ttl, seconds(c.Hdr.Ttl))
		}
		if target == "" {
			return chain, ttl
		}
		name = target
		chain = append(chain, name)
	}
	return nil, 0
}

// seconds converts a TTL. One with the top bit set is a large TTL, not 0 (RFC 8767 section 4); the cache caps it.
func seconds(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }

// referral reports whether an empty answer is a referral and not NODATA: it has NS records in the authority section
// and no SOA record (RFC 2308 section 2.2).
func referral(authority []miekg.RR) bool {
	has := func(t uint16) bool {
		return slices.ContainsFunc(authority, func(rr miekg.RR) bool { return rr.Header().Rrtype == t })
	}
	return has(miekg.TypeNS) && !has(miekg.TypeSOA)
}

// negativeTTL returns how long a denial may be kept: the smaller of the TTL and the MINIMUM of the zone's SOA, or 0
// without an SOA (RFC 2308 section 5).
func negativeTTL(authority []miekg.RR, owner string) time.Duration {
	for _, rr := range authority {
		soa, ok := rr.(*miekg.SOA)
		if ok && soa.Hdr.Class == miekg.ClassINET && miekg.IsSubDomain(soa.Hdr.Name, owner) {
			return seconds(min(soa.Hdr.Ttl, soa.Minttl))
		}
	}
	return 0
}

// add adds the data of a record. It returns false for a record without data: the library accepts those, and an MX
// record without data would look like the null MX. An IPv4-mapped address in an AAAA record becomes the IPv4 address to
// which a connection would go.
func add(r *dns.RRset, rr miekg.RR) bool {
	addr := func(ip []byte) bool {
		a, ok := netip.AddrFromSlice(ip)
		r.Records = append(r.Addrs(), a.Unmap())
		return ok
	}
	switch rr := rr.(type) {
	case *miekg.MX:
		r.Records = append(r.MX(), dns.MX{Preference: rr.Preference, Host: dns.TrimRoot(dns.Lower(rr.Mx))})
		return rr.Mx != ""
	case *miekg.A:
		return addr(rr.A)
	case *miekg.AAAA:
		return addr(rr.AAAA)
	case *miekg.TXT:
		r.Records = append(r.TXT(), strings.Join(rr.Txt, ""))
		return len(rr.Txt) > 0
	case *miekg.CNAME:
		r.Records = append(r.TXT(), dns.TrimRoot(dns.Lower(rr.Target)))
		return rr.Target != ""
	case *miekg.TLSA:
		data, err := hex.DecodeString(rr.Certificate)
		r.Records = append(r.TLSA(), dns.TLSA{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType,
			Data: data})
		return err == nil // without data it is a record too, but unusable (RFC 7672 section 2.2)
	}
	return false
}

// normalise removes duplicate MX records and addresses. It sorts the MX records by preference and name.
func normalise(r *dns.RRset) {
	switch list := r.Records.(type) {
	case []dns.MX:
		slices.SortFunc(list, func(a, b dns.MX) int {
			return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Host, b.Host))
		})
		r.Records = slices.Compact(list)
	case []netip.Addr:
		seen := map[netip.Addr]bool{}
		r.Records = slices.DeleteFunc(list, func(a netip.Addr) bool {
			twice := seen[a]
			seen[a] = true
			return twice
		})
	}
}

// SignatureExpires returns when the first of the signatures over RRsets of a type expires (RFC 4034 section 3.1.5),
// including those of other names on a CNAME chain, or false if the answer has none (RFC 4035 section 3.2.1).
func (a *Answer) SignatureExpires(t dns.Type) (end time.Time, ok bool) {
	for _, rr := range a.msg.Answer {
		if signature, is := rr.(*miekg.RRSIG); is && signature.TypeCovered == uint16(t) {
			if expires := time.Unix(int64(signature.Expiration), 0); end.IsZero() || expires.Before(end) {
				end = expires
			}
		}
	}
	return end, !end.IsZero()
}
