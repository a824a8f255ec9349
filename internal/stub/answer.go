package stub

import (
	"encoding/hex"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

const (
	longestTTL = math.MaxUint32 * time.Second
	maxChain   = 16   // CNAME records
	maxRecords = 4096 // of one RRset
)

// verdict is what the caller of interpret knows beside the message.
type verdict struct {
	question dns.Question // name as onWire has it, without the final dot
	secure   bool         // the AD bit may be believed
	now      time.Time
}

// interpret reads an answer that matches its query. Only the CNAME chain from the question and the RRset at its
// end count. The error is an *Error: whatever is odd is a failure, never a denial.
func interpret(m *miekg.Msg, v verdict) (*dns.RRset, error) {
	fail := func(reason string) (*dns.RRset, error) {
		return nil, &dns.Error{Question: v.question, Reason: reason}
	}
	if m.Rcode != miekg.RcodeSuccess && m.Rcode != miekg.RcodeNameError {
		e := extended(m)
		return nil, &dns.Error{Question: v.question, Reason: rcodeText(m.Rcode) + e.reason, Bogus: e.bogus}
	}
	r := &dns.RRset{Name: v.question.Name, Type: v.question.Type, Status: dns.Insecure, NXDomain: m.Rcode == miekg.RcodeNameError, Stale: extended(m).stale}
	if v.secure && m.AuthenticatedData {
		r.Status = dns.Secure
	}
	chain, ttl := follow(m.Answer, miekg.Fqdn(v.question.Name), v.question.Type)
	if chain == nil {
		return fail("CNAME loop, chain of over 16, or two CNAME records at a name")
	}
	owner := chain[len(chain)-1]
	r.Owner = dns.TrimRoot(owner)
	if r.Owner == r.Name {
		r.Owner = r.Name // in the memory of one
	}
	foreign := false
	for _, rr := range m.Answer {
		h := rr.Header()
		switch {
		case h.Class == miekg.ClassINET && h.Rrtype == uint16(v.question.Type) && dns.Lower(h.Name) == owner:
			if !add(r, rr) {
				return fail("malformed " + v.question.Type.String() + " record")
			}
			ttl = min(ttl, seconds(h.Ttl))
		case !accompanies(rr, chain):
			foreign = true
		}
	}
	switch {
	case size(r) > maxRecords:
		return fail("over 4,096 records")
	case r.Empty() && foreign:
		// Records of other names deny nothing.
		return fail("the answer is for another name or type")
	case r.Empty() && !r.NXDomain && referral(m.Ns):
		return fail("a referral to other servers: the server is no resolver")
	case r.Empty():
		ttl = min(ttl, negativeTTL(m.Ns, owner))
	case r.NXDomain:
		return fail("NXDOMAIN with records of the name")
	}
	normalise(r)
	clip(r)
	r.Expires = v.now.Add(ttl)
	return r, nil
}

// follow returns the names of the CNAME chain that begins at name, name included, and the smallest TTL on the way. It returns nil for a loop, a chain that is too long, and two targets for a name.
func follow(answer []miekg.RR, name string, t dns.Type) (chain []string, ttl time.Duration) {
	chain, ttl = []string{name}, longestTTL
	if t == dns.TypeCNAME {
		return chain, ttl
	}
	for range maxChain + 1 {
		var target string
		for _, rr := range answer {
			c, is := rr.(*miekg.CNAME)
			if !is || c.Hdr.Class != miekg.ClassINET || dns.Lower(c.Hdr.Name) != name {
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

// accompanies says of a record that is not the answer that it may stand beside it: a CNAME of the chain, the DNAME
// that it was made from, a signature.
func accompanies(rr miekg.RR, chain []string) bool {
	switch rr.Header().Rrtype {
	case miekg.TypeCNAME:
		return slices.Contains(chain[:len(chain)-1], dns.Lower(rr.Header().Name))
	case miekg.TypeDNAME, miekg.TypeRRSIG:
		return true
	}
	return false
}

// seconds converts a TTL. One with the top bit set is a large TTL, not 0 (RFC 8767 section 4); the cache caps it.
func seconds(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }

// referral tells a referral from NODATA: it has NS records in the authority section and no SOA record (RFC 2308
// section 2.2).
func referral(authority []miekg.RR) bool {
	has := func(t uint16) bool {
		return slices.ContainsFunc(authority, func(rr miekg.RR) bool { return rr.Header().Rrtype == t })
	}
	return has(miekg.TypeNS) && !has(miekg.TypeSOA)
}

// negativeTTL is how long a denial lasts: the smaller of the TTL and the MINIMUM of the zone's SOA, 0 without one
// (RFC 2308 section 5).
func negativeTTL(authority []miekg.RR, owner string) time.Duration {
	for _, rr := range authority {
		soa, ok := rr.(*miekg.SOA)
		if ok && soa.Hdr.Class == miekg.ClassINET && miekg.IsSubDomain(dns.Lower(soa.Hdr.Name), owner) {
			return min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl))
		}
	}
	return 0
}

// add takes the data of a record. It returns false for a record without data: the library lets those pass, and
// an MX record without data would look like the null MX.
func add(r *dns.RRset, rr miekg.RR) bool {
	switch rr := rr.(type) {
	case *miekg.MX:
		r.MX = append(r.MX, dns.MX{Preference: rr.Preference, Host: hostName(rr.Mx)})
		return rr.Mx != ""
	case *miekg.A:
		return addAddr(r, rr.A)
	case *miekg.AAAA:
		return addAddr(r, rr.AAAA)
	case *miekg.TXT:
		r.TXT = append(r.TXT, unescape(strings.Join(rr.Txt, "")))
		return len(rr.Txt) > 0
	case *miekg.CNAME:
		r.TXT = append(r.TXT, hostName(rr.Target))
		return rr.Target != ""
	case *miekg.NS:
		r.TXT = append(r.TXT, hostName(rr.Ns))
		return rr.Ns != ""
	case *miekg.TLSA:
		data, err := hex.DecodeString(rr.Certificate)
		r.TLSA = append(r.TLSA, dns.TLSA{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType, Data: data})
		return err == nil // without data it is an unusable record, but one (RFC 7672 section 2.2)
	}
	return false
}

// addAddr takes an address as it is: an AAAA record with an IPv4-mapped address is no A record, but nobody would
// connect to anything else.
func addAddr(r *dns.RRset, ip []byte) bool {
	a, ok := netip.AddrFromSlice(ip)
	if ok {
		r.Addrs = append(r.Addrs, a.Unmap())
	}
	return ok
}

func size(r *dns.RRset) int {
	return len(r.MX) + len(r.Addrs) + len(r.TLSA) + len(r.TXT)
}

// sort puts MX records into the order of preference and name, and takes out what is there twice. Addresses keep
// their order.
func normalise(r *dns.RRset) {
	slices.SortFunc(r.MX, func(a, b dns.MX) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return strings.Compare(a.Host, b.Host)
	})
	r.MX = slices.Compact(r.MX)
	if len(r.Addrs) < 2 {
		return
	}
	seen := make(map[netip.Addr]bool, len(r.Addrs))
	r.Addrs = slices.DeleteFunc(r.Addrs, func(a netip.Addr) bool {
		twice := seen[a]
		seen[a] = true
		return twice
	})
}

// clip gives back the room that is left in the slices: an answer is kept for long.
func clip(r *dns.RRset) {
	r.MX, r.Addrs, r.TLSA, r.TXT = clipped(r.MX), clipped(r.Addrs), clipped(r.TLSA), clipped(r.TXT)
}

func clipped[S ~[]E, E any](s S) S {
	if cap(s) == len(s) {
		return s
	}
	return slices.Clone(s)
}
