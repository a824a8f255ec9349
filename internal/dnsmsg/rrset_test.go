package dnsmsg

import (
	"fmt"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// message makes an answer that went over the wire. Records are in the form of a zone file; those after "--" are in the
// authority section.
func message(t *testing.T, rcode int, records ...string) *Answer {
	t.Helper()
	m := new(miekg.Msg)
	m.Response, m.Rcode, m.AuthenticatedData, m.Compress = true, rcode, true, true
	authority := false
	for _, record := range records {
		if record == "--" {
			authority = true
			continue
		}
		rr, err := miekg.NewRR(record)
		require.NoError(t, err)
		if authority {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	wire, err := m.Pack()
	require.NoError(t, err)
	a, err := parse(wire)
	require.NoError(t, err)
	return a
}

// queryFor returns the query for a question about a domain name.
func queryFor(t *testing.T, q dns.Question) Query {
	t.Helper()
	query, ok := NewQuery(q)
	require.True(t, ok)
	return query
}

const soa = "example. 300 IN SOA ns. hostmaster. 1 3600 600 86400 60"

func TestRRset(t *testing.T) {
	mxQuestion := dns.Question{Name: "a.example", Type: dns.TypeMX}
	tests := map[string]struct {
		question dns.Question
		rcode    int
		records  []string
		want     string // the gist of the RRset, or "!" and the reason of the failure
	}{
		"data": {
			records: []string{"a.example. 60 IN MX 10 mx.example."},
			want:    "a.example [{10 mx.example}] 1m0s",
		},
		"an MX of another name never counts": {
			records: []string{"evil.example. 60 IN MX 10 evil.example."},
			want:    "!the answer is for another name or type",
		},
		"an MX of another name beside ours does not count": {
			records: []string{"evil.example. 1 IN MX 10 evil.example.", "a.example. 60 IN MX 10 mx.example."},
			want:    "a.example [{10 mx.example}] 1m0s",
		},
		"a TLSA of another name never counts": {
			question: dns.Question{Name: "_25._tcp.mx.example", Type: dns.TypeTLSA},
			records:  []string{"_25._tcp.evil.example. 60 IN TLSA 3 1 1 abcd"},
			want:     "!the answer is for another name or type",
		},
		"a record of another type denies nothing": {
			records: []string{"a.example. 60 IN A 192.0.2.1"},
			want:    "!the answer is for another name or type",
		},
		"a record of another class does not count": {
			records: []string{"a.example. 60 CH MX 10 mx.example."},
			want:    "!the answer is for another name or type",
		},
		"records of another name behind a CNAME deny nothing": {
			records: []string{"a.example. 60 IN CNAME b.example.", "c.example. 60 IN MX 10 mx.example.", "--", soa},
			want:    "!the answer is for another name or type",
		},
		"a CNAME of another name is not part of the chain": {
			records: []string{"x.example. 60 IN CNAME y.example.", "--", soa},
			want:    "!the answer is for another name or type",
		},
		"a signature is not an answer": {
			records: []string{"a.example. 60 IN RRSIG MX 13 2 60 20300101000000 20200101000000 1 example. AAAA", "--", soa},
			want:    "a.example denied 1m0s",
		},
		"CNAME chain, records in any order": {
			records: []string{"c.example. 300 IN MX 10 mx.example.", "b.example. 30 IN CNAME C.example.", "A.example. 60 IN CNAME b.example."},
			want:    "c.example [{10 mx.example}] 30s",
		},
		"the TTL of each CNAME counts": {
			records: []string{"a.example. 7 IN CNAME b.example.", "b.example. 3600 IN MX 10 mx.example."},
			want:    "b.example [{10 mx.example}] 7s",
		},
		"DNAME with the CNAME made from it": {
			question: dns.Question{Name: "a.old.example", Type: dns.TypeMX},
			records:  []string{"old.example. 60 IN DNAME new.example.", "a.old.example. 60 IN CNAME a.new.example.", "--", soa},
			want:     "a.new.example denied 1m0s",
		},
		"a DNAME without the CNAME made from it denies nothing": {
			question: dns.Question{Name: "a.old.example", Type: dns.TypeMX},
			records:  []string{"OLD.example. 60 IN DNAME new.example.", "--", soa},
			want:     "!the answer is for another name or type",
		},
		"a DNAME behind a CNAME, without the CNAME made from it": {
			records: []string{"a.example. 60 IN CNAME a.old.example.", "old.example. 60 IN DNAME new.example.", "--", soa},
			want:    "!the answer is for another name or type",
		},
		"a DNAME does not rename its own name": {
			question: dns.Question{Name: "old.example", Type: dns.TypeMX},
			records:  []string{"old.example. 60 IN DNAME new.example.", "--", soa},
			want:     "old.example denied 1m0s",
		},
		"a denial at the end of a chain": {
			records: []string{"a.example. 20 IN CNAME b.example.", "--", soa},
			want:    "b.example denied 20s",
		},
		"NXDOMAIN at the end of a chain": {
			rcode:   miekg.RcodeNameError,
			records: []string{"a.example. 600 IN CNAME b.example.", "--", soa},
			want:    "b.example NXDOMAIN 1m0s",
		},
		"NXDOMAIN with records of the name": {
			rcode:   miekg.RcodeNameError,
			records: []string{"a.example. 60 IN MX 10 mx.example."},
			want:    "!NXDOMAIN with records of the name",
		},
		"NXDOMAIN with records of other names": {
			rcode:   miekg.RcodeNameError,
			records: []string{"evil.example. 60 IN MX 10 mx.example.", "--", soa},
			want:    "!the answer is for another name or type",
		},
		"a referral denies nothing (RFC 2308 2.2)": {
			records: []string{"--", "example. 60 IN NS ns.example."},
			want:    "!a referral to other servers: the server is not a resolver",
		},
		"a referral behind a CNAME": {
			records: []string{"a.example. 60 IN CNAME b.other.", "--", "other. 60 IN NS ns.example."},
			want:    "!a referral to other servers: the server is not a resolver",
		},
		"a denial with NS records beside the SOA": {
			records: []string{"--", "example. 60 IN NS ns.example.", soa},
			want:    "a.example denied 1m0s",
		},
		"NXDOMAIN with NS records (RFC 2308 2.1)": {
			rcode:   miekg.RcodeNameError,
			records: []string{"--", "example. 60 IN NS ns.example."},
			want:    "a.example NXDOMAIN 0s",
		},
		"CNAME loop": {
			records: []string{"a.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME a.example."},
			want:    "!CNAME loop, chain of over 16, or two CNAME records at a name",
		},
		"CNAME to itself": {
			records: []string{"a.example. 60 IN CNAME a.example."},
			want:    "!CNAME loop, chain of over 16, or two CNAME records at a name",
		},
		"two CNAME records at a name": {
			records: []string{"a.example. 60 IN CNAME b.example.", "a.example. 60 IN CNAME c.example.", "b.example. 60 IN MX 10 mx.example."},
			want:    "!CNAME loop, chain of over 16, or two CNAME records at a name",
		},
		"the same CNAME twice": {
			records: []string{"a.example. 60 IN CNAME b.example.", "a.example. 50 IN CNAME B.example.", "b.example. 60 IN MX 10 mx.example."},
			want:    "b.example [{10 mx.example}] 50s",
		},
		"a chain of 16": {records: chain(16), want: "n16.example [{10 mx.example}] 1m0s"},
		"a chain of 17": {records: chain(17), want: "!CNAME loop, chain of over 16, or two CNAME records at a name"},
		"type CNAME follows nothing": {
			question: dns.Question{Name: "a.example", Type: dns.TypeCNAME},
			records:  []string{"a.example. 60 IN CNAME b.example.", "b.example. 5 IN CNAME c.example."},
			want:     "a.example [b.example] 1m0s",
		},
		"TTL: the minimum over everything used":                  {records: []string{"a.example. 60 IN MX 10 m1.example.", "a.example. 5 IN MX 10 m2.example."}, want: "a.example [{10 m1.example} {10 m2.example}] 5s"},
		"TTL: what is not used does not count":                   {records: []string{"a.example. 60 IN MX 10 m1.example.", "m1.example. 5 IN A 192.0.2.1"}, want: "a.example [{10 m1.example}] 1m0s"},
		"TTL 0":                                                  {records: []string{"a.example. 0 IN MX 10 m1.example."}, want: "a.example [{10 m1.example}] 0s"},
		"TTL with the top bit set is positive (RFC 8767 4)":      {records: []string{"a.example. 2147483648 IN MX 10 m1.example."}, want: "a.example [{10 m1.example}] 596523h14m8s"},
		"TTL of a CNAME with the top bit set":                    {records: []string{"a.example. 4294967295 IN CNAME b.example.", "b.example. 60 IN MX 10 m1.example."}, want: "b.example [{10 m1.example}] 1m0s"},
		"TTL of an SOA with the top bit set":                     {records: []string{"--", "example. 4294967295 IN SOA ns. hostmaster. 1 2 3 4 60"}, want: "a.example denied 1m0s"},
		"negative: min(SOA TTL, SOA MINIMUM), the latter":        {records: []string{"--", soa}, want: "a.example denied 1m0s"},
		"negative: min(SOA TTL, SOA MINIMUM), the former":        {records: []string{"--", "example. 6 IN SOA ns. hostmaster. 1 2 3 4 60"}, want: "a.example denied 6s"},
		"negative: MINIMUM with the top bit set":                 {records: []string{"--", "example. 60 IN SOA ns. hostmaster. 1 2 3 4 4294967295"}, want: "a.example denied 1m0s"},
		"negative: without SOA not cached (RFC 2308 5)":          {rcode: miekg.RcodeNameError, want: "a.example NXDOMAIN 0s"},
		"negative: the SOA of another zone does not count":       {records: []string{"--", "other. 60 IN SOA ns. hostmaster. 1 2 3 4 60"}, want: "a.example denied 0s"},
		"negative: the SOA of a sibling does not count":          {records: []string{"--", "b.example. 60 IN SOA ns. hostmaster. 1 2 3 4 60"}, want: "a.example denied 0s"},
		"negative: the zone of the chain's end counts":           {records: []string{"a.example. 60 IN CNAME b.other.", "--", "example. 7 IN SOA ns. hostmaster. 1 2 3 4 60", "other. 8 IN SOA ns. hostmaster. 1 2 3 4 60"}, want: "b.other denied 8s"},
		"an IPv4-mapped address is what it stands for":           {question: dns.Question{Name: "a.example", Type: dns.TypeAAAA}, records: []string{"a.example. 60 IN AAAA ::ffff:192.0.2.1"}, want: "a.example [192.0.2.1] 1m0s"},
		"a TLSA record without data is an unusable record":       {question: dns.Question{Name: "a.example", Type: dns.TypeTLSA}, records: []string{`a.example. 60 IN TLSA \# 3 030101`}, want: "a.example [{3 1 1 []}] 1m0s"},
		"an MX host with odd octets stays as a zone file has it": {records: []string{`a.example. 60 IN MX 10 A\032b\\c\000\.d.example.`}, want: `a.example [{10 a\ b\\c\000\.d.example}] 1m0s`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.question == (dns.Question{}) {
				tc.question = mxQuestion
			}
			r, ttl, err := message(t, tc.rcode, tc.records...).RRset(queryFor(t, tc.question), true)
			if reason, ok := strings.CutPrefix(tc.want, "!"); ok {
				require.Nil(t, r)
				require.EqualError(t, err, "dns: "+tc.question.Type.String()+" "+tc.question.Name+": "+reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, dns.Secure, r.Status)
			require.Equal(t, tc.question.Name, r.Name)
			require.Equal(t, tc.want, gist(r)+" "+ttl.String())
		})
	}
}

// gist returns the parts of an RRset that matter here.
func gist(r *dns.RRset) string {
	var data string
	switch {
	case r.NXDomain:
		data = "NXDOMAIN"
	case r.Empty():
		data = "denied"
	case r.Type == dns.TypeMX:
		data = fmt.Sprint(r.MX())
	case r.Type == dns.TypeTLSA:
		data = fmt.Sprint(r.TLSA())
	case r.Type == dns.TypeCNAME:
		data = fmt.Sprint(r.TXT())
	default:
		data = fmt.Sprint(r.Addrs())
	}
	return r.Owner + " " + data
}

// chain is a CNAME chain of n records from a.example with an MX record at its end.
func chain(n int) (records []string) {
	from := "a.example."
	for i := range n {
		to := fmt.Sprintf("n%d.example.", i+1)
		records = append(records, from+" 60 IN CNAME "+to)
		from = to
	}
	return append(records, from+" 60 IN MX 10 mx.example.")
}

// The library lets records without data pass. An MX record without data must not look like the null MX.
func TestARecordWithoutDataIsMalformed(t *testing.T) {
	for _, ty := range []dns.Type{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT, dns.TypeNS, dns.TypeCNAME} {
		m := &miekg.Msg{Answer: []miekg.RR{&miekg.RFC3597{Hdr: miekg.RR_Header{Name: "a.example.", Rrtype: uint16(ty), Class: miekg.ClassINET, Ttl: 60}}}}
		m.Response, m.AuthenticatedData = true, true
		wire, err := m.Pack()
		require.NoError(t, err)
		a := new(Answer)
		require.NoError(t, a.msg.Unpack(wire))
		r, _, err := a.RRset(queryFor(t, dns.Question{Name: "a.example", Type: ty}), true)
		require.Nil(t, r)
		require.ErrorContains(t, err, "malformed "+ty.String()+" record")
	}
}

func TestADCountsOnlyIfTrusted(t *testing.T) {
	a := message(t, 0, "a.example. 60 IN MX 10 mx.example.")
	q := queryFor(t, dns.Question{Name: "a.example", Type: dns.TypeMX})
	r, _, err := a.RRset(q, false)
	require.NoError(t, err)
	require.Equal(t, dns.Insecure, r.Status, "the AD bit of a server that is not trusted")
	a.msg.AuthenticatedData = false
	r, _, err = a.RRset(q, true)
	require.NoError(t, err)
	require.Equal(t, dns.Insecure, r.Status)
	a.msg.AuthenticatedData = true
	r, _, err = a.RRset(q, true)
	require.NoError(t, err)
	require.Equal(t, dns.Secure, r.Status)
}

// An answer that had expired in the cache of the resolver is marked, whatever it says.
func TestAStaleAnswerIsMarked(t *testing.T) {
	q := queryFor(t, dns.Question{Name: "a.example", Type: dns.TypeMX})
	for code, want := range map[uint16]bool{
		miekg.ExtendedErrorCodeStaleAnswer: true, miekg.ExtendedErrorCodeStaleNXDOMAINAnswer: true,
		miekg.ExtendedErrorCodeDNSBogus: false, miekg.ExtendedErrorCodeCachedError: false,
	} {
		for _, a := range []*Answer{
			message(t, miekg.RcodeNameError, "--", soa), message(t, 0, "--", soa), message(t, 0, "a.example. 60 IN MX 10 mx.example."),
		} {
			a.msg.SetEdns0(1232, true)
			a.msg.IsEdns0().Option = append(a.msg.IsEdns0().Option, &miekg.EDNS0_EDE{InfoCode: code})
			r, _, err := a.RRset(q, true)
			require.NoError(t, err)
			require.Equal(t, want, r.Stale, "EDE %d", code)
			require.Equal(t, dns.Secure, r.Status)
		}
	}
}
