package dnsmsg

import (
	"errors"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// FuzzRRset reads arbitrary bytes as an answer. It requires: no panic, Secure only with the AD bit of a trusted server,
// no data of other names, a life within the caps, reasons in printable ASCII.
func FuzzRRset(f *testing.F) {
	add := func(name string, qtype uint16, rcode int, records ...string) {
		m := new(miekg.Msg).SetQuestion(name, qtype)
		m.Response, m.AuthenticatedData, m.Rcode, m.Compress = true, true, rcode, true
		for _, record := range records {
			rr, err := miekg.NewRR(record)
			require.NoError(f, err)
			if rr.Header().Rrtype == miekg.TypeSOA {
				m.Ns = append(m.Ns, rr)
			} else {
				m.Answer = append(m.Answer, rr)
			}
		}
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &miekg.EDNS0_EDE{InfoCode: 6, ExtraText: "b\xc3\xb6gus"})
		wire, err := m.Pack()
		require.NoError(f, err)
		f.Add(name, qtype, true, wire)
		f.Add(name, qtype, false, wire)
	}
	add("a.example.", miekg.TypeMX, 0, "a.example. 60 IN MX 10 mx.a.example.", "a.example. 4294967295 IN MX 0 .", `a.example. 60 IN MX 1 a\032\000\.b.example.`)
	add("a.example.", miekg.TypeMX, 0, "a.example. 60 IN CNAME b.example.", "b.example. 90000 IN MX 10 mx.a.example.")
	add("a.example.", miekg.TypeMX, 0, "a.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.example.")
	add("a.example.", miekg.TypeMX, 0, "b.example. 60 IN MX 10 mx.a.example.")
	add("a.example.", miekg.TypeMX, 2)
	add("a.example.", miekg.TypeMX, 3, soa)
	add("a.example.", miekg.TypeMX, 0, soa)
	add("a.example.", miekg.TypeA, 0, "a.example. 60 IN A 192.0.2.1")
	add("a.example.", miekg.TypeAAAA, 0, "a.example. 60 IN AAAA 2001:db8::1", "a.example. 60 IN AAAA ::ffff:192.0.2.1")
	add("_25._tcp.a.example.", miekg.TypeTLSA, 0, "_25._tcp.a.example. 60 IN TLSA 3 1 1 abcd", "_25._tcp.b.example. 60 IN TLSA 3 1 1 abcd")
	add("a.example.", miekg.TypeTXT, 0, `a.example. 60 IN TXT "v=STSv1; \\ \" \000" "id=1"`)
	add(".", miekg.TypeNS, 0, ". 60 IN NS a.root-servers.net.")
	add("a.example.", miekg.TypeCNAME, 0, "a.example. 60 IN CNAME b.example.")
	f.Fuzz(func(t *testing.T, name string, qtype uint16, trusted bool, wire []byte) {
		query, ok := NewQuery(dns.Question{Name: name, Type: dns.Type(qtype)})
		a, err := parse(wire)
		if !ok || err != nil {
			return
		}
		q, m := query.Question(), &a.msg
		r, life, err := a.RRset(query, trusted)
		if err != nil {
			failed, ok := errors.AsType[*dns.Error](err)
			require.True(t, ok)
			require.Nil(t, r)
			require.Empty(t, strings.Trim(failed.Reason, asciiText()), "printable ASCII")
			return
		}
		require.Equal(t, q.Name, r.Name)
		require.Equal(t, q.Type, r.Type)
		want := dns.Insecure
		if trusted && m.AuthenticatedData {
			want = dns.Secure
		}
		require.Equal(t, want, r.Status)
		require.Contains(t, []int{miekg.RcodeSuccess, miekg.RcodeNameError}, m.Rcode)
		require.True(t, life >= 0 && life <= longestTTL, "TTL %s", life)
		require.False(t, r.NXDomain && !r.Empty())
		ours := 0 // records of the name and the type
		for _, rr := range m.Answer {
			h := rr.Header()
			if miekg.CanonicalName(h.Name) == miekg.Fqdn(r.Owner) && h.Rrtype == qtype && h.Class == miekg.ClassINET {
				ours++
				require.LessOrEqual(t, life, seconds(h.Ttl))
			}
		}
		require.LessOrEqual(t, len(r.MX())+len(r.Addrs())+len(r.TLSA())+len(r.TXT()), ours, "no data of other names")
		require.Equal(t, ours == 0, r.Empty())
		if r.Owner != r.Name {
			require.True(t, slices.ContainsFunc(m.Answer, func(rr miekg.RR) bool {
				c, ok := rr.(*miekg.CNAME)
				return ok && miekg.CanonicalName(c.Target) == miekg.Fqdn(r.Owner)
			}), "the end of a chain")
		}
	})
}

// asciiText is every octet that a reason may have.
func asciiText() string {
	var b strings.Builder
	for c := byte(' '); c <= '~'; c++ {
		b.WriteByte(c)
	}
	return b.String()
}
