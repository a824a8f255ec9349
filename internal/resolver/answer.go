package resolver

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
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
	question Question // name in lower case without the final dot
	secure   bool     // the AD bit may be believed
	now      time.Time
}

// interpret reads an answer that matches its query. Only the CNAME chain from the question and the RRset at its
// end count. The error is an *Error.
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
	owner, ttl, ok := follow(m.Answer, dns.CanonicalName(v.question.Name), v.question.Type)
	if !ok {
		return fail("CNAME loop, chain of over 16, or two CNAME records at a name")
	}
	r.Owner = strings.TrimSuffix(owner, ".")
	if !r.NXDomain {
		for _, rr := range m.Answer {
			h := rr.Header()
			if uint16(v.question.Type) != h.Rrtype || h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != owner {
				continue
			}
			if r.add(rr); r.size() > maxRecords {
				return fail("over 4,096 records")
			}
			ttl = min(ttl, seconds(h.Ttl))
		}
	}
	switch {
	case !r.Empty():
		ttl = min(ttl, maxTTL)
	case !r.NXDomain && owner == dns.CanonicalName(v.question.Name) && hasData(m.Answer):
		return fail("the answer is for another name or type")
	default:
		ttl = min(ttl, negativeTTL(m.Ns, owner))
	}
	slices.SortStableFunc(r.MX, func(a, b MX) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return strings.Compare(a.Host, b.Host)
	})
	r.MX = slices.Compact(r.MX)
	r.Expires = v.now.Add(ttl)
	return r, nil
}

// follow returns the name at the end of the CNAME chain that begins at name, and the smallest TTL on the
// way. It returns false for a loop, a chain that is too long, and two targets for a name.
func follow(answer []dns.RR, name string, t Type) (end string, ttl time.Duration, ok bool) {
	ttl = maxTTL
	if t == TypeCNAME {
		return name, ttl, true
	}
	for range maxChain + 1 {
		var target string
		for _, rr := range answer {
			c, is := rr.(*dns.CNAME)
			if !is || c.Hdr.Class != dns.ClassINET || dns.CanonicalName(c.Hdr.Name) != name {
				continue
			}
			to := dns.CanonicalName(c.Target)
			if target != "" && target != to {
				return "", 0, false
			}
			target, ttl = to, min(ttl, seconds(c.Hdr.Ttl))
		}
		if target == "" {
			return name, ttl, true
		}
		name = target
	}
	return "", 0, false
}

func hasData(answer []dns.RR) bool {
	return slices.ContainsFunc(answer, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeRRSIG })
}

// seconds reads a TTL; one with the top bit set is 0 (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// negativeTTL is how long a denial lasts: the smaller of the TTL and the MINIMUM of the zone's SOA, 0 without one
// (RFC 2308 section 5).
func negativeTTL(authority []dns.RR, owner string) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(dns.CanonicalName(soa.Hdr.Name), owner) {
			return min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegativeTTL)
		}
	}
	return 0
}

// add takes the data of a record, each once.
func (r *RRset) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.MX:
		r.MX = append(r.MX, MX{Preference: rr.Preference, Host: hostName(rr.Mx)})
	case *dns.A:
		r.addAddr(rr.A)
	case *dns.AAAA:
		r.addAddr(rr.AAAA)
	case *dns.TXT:
		r.TXT = append(r.TXT, unescape(strings.Join(rr.Txt, "")))
	case *dns.CNAME:
		r.Names = append(r.Names, hostName(rr.Target))
	case *dns.NS:
		r.Names = append(r.Names, hostName(rr.Ns))
	case *dns.TLSA:
		if data, err := hex.DecodeString(rr.Certificate); err == nil {
			r.TLSA = append(r.TLSA, TLSA{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType, Data: data})
		}
	}
}

func (r *RRset) addAddr(ip []byte) {
	if a, ok := netip.AddrFromSlice(ip); ok && !slices.Contains(r.Addrs, a.Unmap()) {
		r.Addrs = append(r.Addrs, a.Unmap())
	}
}

func (r *RRset) size() int {
	return len(r.MX) + len(r.Addrs) + len(r.TLSA) + len(r.TXT) + len(r.Names)
}

// hostName is a name from the wire as RRset has names.
func hostName(name string) string {
	return strings.TrimSuffix(dns.CanonicalName(name), ".")
}

// unescape undoes the escapes that the library puts into TXT data.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

func rcodeText(rcode int) string {
	if text, ok := dns.RcodeToString[rcode]; ok {
		return text
	}
	return "RCODE " + strconv.Itoa(rcode)
}

// extended returns the Extended DNS Errors of an answer (RFC 8914) for people, in printable ASCII, and whether
// one of them says that validation failed.
func extended(m *dns.Msg) (text string, bogus bool) {
	opt := m.IsEdns0()
	if opt == nil {
		return "", false
	}
	const longest = 100
	for _, o := range opt.Option {
		ede, ok := o.(*dns.EDNS0_EDE)
		if !ok {
			continue
		}
		// 5 DNSSEC Indeterminate is no verdict; 6 DNSSEC Bogus to 12 NSEC Missing are.
		bogus = bogus || ede.InfoCode >= dns.ExtendedErrorCodeDNSBogus && ede.InfoCode <= dns.ExtendedErrorCodeNSECMissing
		if text != "" {
			continue
		}
		text = dns.ExtendedErrorCodeToString[ede.InfoCode]
		if text == "" {
			text = "EDE " + strconv.Itoa(int(ede.InfoCode))
		}
		if ede.ExtraText != "" {
			text += ": " + ede.ExtraText
		}
		text = " (" + printable(text[:min(len(text), longest)]) + ")"
	}
	return text, bogus
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
