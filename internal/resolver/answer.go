package resolver

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	maxTTL         = 24 * time.Hour
	maxNegativeTTL = 3 * time.Hour
	maxChain       = 16   // CNAME records
	maxRecords     = 4096 // of one RRset
)

// verdict is what the caller of interpret knows beside the message.
type verdict struct {
	question Question // name as onWire has it, without the final dot
	secure   bool     // the AD bit may be believed
	now      time.Time
}

// interpret reads an answer that matches its query. Only the CNAME chain from the question and the RRset at its
// end count. The error is an *Error: whatever is odd is a failure, never a denial.
func interpret(m *dns.Msg, v verdict) (*RRset, error) {
	fail := func(reason string) (*RRset, error) {
		return nil, &Error{Question: v.question, Reason: reason}
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		text, bogus := extended(m)
		return nil, &Error{Question: v.question, Reason: rcodeText(m.Rcode) + text, Bogus: bogus}
	}
	r := &RRset{Name: v.question.Name, Type: v.question.Type, Status: Insecure, NXDomain: m.Rcode == dns.RcodeNameError}
	if v.secure && m.AuthenticatedData {
		r.Status = Secure
	}
	chain, ttl := follow(m.Answer, dns.Fqdn(v.question.Name), v.question.Type)
	if chain == nil {
		return fail("CNAME loop, chain of over 16, or two CNAME records at a name")
	}
	owner := chain[len(chain)-1]
	r.Owner = trimRoot(owner)
	if r.Owner == r.Name {
		r.Owner = r.Name // in the memory of one
	}
	foreign := false
	for _, rr := range m.Answer {
		h := rr.Header()
		switch {
		case h.Class == dns.ClassINET && h.Rrtype == uint16(v.question.Type) && lower(h.Name) == owner:
			if !r.add(rr) {
				return fail("malformed " + v.question.Type.String() + " record")
			}
			ttl = min(ttl, seconds(h.Ttl))
		case !accompanies(rr, chain):
			foreign = true
		}
	}
	switch {
	case r.size() > maxRecords:
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
	r.sort()
	r.clip()
	r.Expires = v.now.Add(ttl)
	return r, nil
}

// follow returns the names of the CNAME chain that begins at name, name included, and the smallest TTL on the way, at
// most the cap. It returns nil for a loop, a chain that is too long, and two targets for a name.
func follow(answer []dns.RR, name string, t Type) (chain []string, ttl time.Duration) {
	chain, ttl = []string{name}, maxTTL
	if t == TypeCNAME {
		return chain, ttl
	}
	for range maxChain + 1 {
		var target string
		for _, rr := range answer {
			c, is := rr.(*dns.CNAME)
			if !is || c.Hdr.Class != dns.ClassINET || lower(c.Hdr.Name) != name {
				continue
			}
			to := lower(c.Target)
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
func accompanies(rr dns.RR, chain []string) bool {
	switch rr.Header().Rrtype {
	case dns.TypeCNAME:
		return slices.Contains(chain[:len(chain)-1], lower(rr.Header().Name))
	case dns.TypeDNAME, dns.TypeRRSIG:
		return true
	}
	return false
}

// seconds reads a TTL; one with the top bit set is 0 (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// referral tells a referral from NODATA: it has NS records in the authority section and no SOA record (RFC 2308
// section 2.2).
func referral(authority []dns.RR) bool {
	has := func(t uint16) bool {
		return slices.ContainsFunc(authority, func(rr dns.RR) bool { return rr.Header().Rrtype == t })
	}
	return has(dns.TypeNS) && !has(dns.TypeSOA)
}

// negativeTTL is how long a denial lasts: the smaller of the TTL and the MINIMUM of the zone's SOA, 0 without one
// (RFC 2308 section 5).
func negativeTTL(authority []dns.RR, owner string) time.Duration {
	for _, rr := range authority {
		soa, ok := rr.(*dns.SOA)
		if ok && soa.Hdr.Class == dns.ClassINET && dns.IsSubDomain(lower(soa.Hdr.Name), owner) {
			return min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegativeTTL)
		}
	}
	return 0
}

// add takes the data of a record. It returns false for a record without data: the library lets those pass, and
// an MX record without data would look like the null MX.
func (r *RRset) add(rr dns.RR) bool {
	switch rr := rr.(type) {
	case *dns.MX:
		r.MX = append(r.MX, MX{Preference: rr.Preference, Host: hostName(rr.Mx)})
		return rr.Mx != ""
	case *dns.A:
		return r.addAddr(rr.A)
	case *dns.AAAA:
		return r.addAddr(rr.AAAA)
	case *dns.TXT:
		r.TXT = append(r.TXT, unescape(strings.Join(rr.Txt, "")))
		return len(rr.Txt) > 0
	case *dns.CNAME:
		r.TXT = append(r.TXT, hostName(rr.Target))
		return rr.Target != ""
	case *dns.NS:
		r.TXT = append(r.TXT, hostName(rr.Ns))
		return rr.Ns != ""
	case *dns.TLSA:
		data, err := hex.DecodeString(rr.Certificate)
		r.TLSA = append(r.TLSA, TLSA{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType, Data: data})
		return err == nil // without data it is an unusable record, but one (RFC 7672 section 2.2)
	}
	return false
}

// addAddr takes an address as it is: an AAAA record with an IPv4-mapped address is no A record, but nobody would
// connect to anything else.
func (r *RRset) addAddr(ip []byte) bool {
	a, ok := netip.AddrFromSlice(ip)
	if ok {
		r.Addrs = append(r.Addrs, a.Unmap())
	}
	return ok
}

func (r *RRset) size() int {
	return len(r.MX) + len(r.Addrs) + len(r.TLSA) + len(r.TXT)
}

// sort puts MX records into the order of preference and name, and takes out what is there twice. Addresses keep
// their order.
func (r *RRset) sort() {
	slices.SortFunc(r.MX, func(a, b MX) int {
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
func (r *RRset) clip() {
	r.MX, r.Addrs, r.TLSA, r.TXT = clipped(r.MX), clipped(r.Addrs), clipped(r.TLSA), clipped(r.TXT)
}

func clipped[S ~[]E, E any](s S) S {
	if cap(s) == len(s) {
		return s
	}
	return slices.Clone(s)
}
