package dnsmsg

import (
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// An answer has the ID and the question of the query, or it is an error without a question (RFC 5452 section 9.1).
func TestRead(t *testing.T) {
	t.Parallel()
	q := queryFor(t, dns.Question{Name: "Example.com", Type: dns.TypeMX})
	const id = 4711
	const whole, cut = 0, 3 // octets that are missing at the end
	for name, c := range map[string]struct {
		change func(*miekg.Msg)
		cut    int
		want   error
	}{
		"an answer":                        {func(*miekg.Msg) {}, whole, nil},
		"the name in another case":         {func(m *miekg.Msg) { m.Question[0].Name = "eXample.com." }, whole, nil},
		"another ID":                       {func(m *miekg.Msg) { m.Id++ }, whole, ErrStray},
		"another name":                     {func(m *miekg.Msg) { m.Question[0].Name = "example.net." }, whole, ErrStray},
		"another type":                     {func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeA }, whole, ErrStray},
		"another class":                    {func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }, whole, ErrStray},
		"two questions":                    {func(m *miekg.Msg) { m.Question = append(m.Question, m.Question...) }, whole, ErrStray},
		"a query":                          {func(m *miekg.Msg) { m.Response = false }, whole, ErrStray},
		"another opcode":                   {func(m *miekg.Msg) { m.Opcode = miekg.OpcodeNotify }, whole, ErrStray},
		"an error":                         {func(m *miekg.Msg) { m.Rcode = miekg.RcodeRefused }, whole, nil},
		"an error without a question":      {func(m *miekg.Msg) { m.Question, m.Rcode = nil, miekg.RcodeFormatError }, whole, nil},
		"data without a question":          {func(m *miekg.Msg) { m.Question = nil }, whole, ErrStray},
		"NXDOMAIN without a question":      {func(m *miekg.Msg) { m.Question, m.Rcode = nil, miekg.RcodeNameError }, whole, ErrStray},
		"cut off":                          {func(*miekg.Msg) {}, cut, ErrMalformed},
		"truncated and cut off":            {func(m *miekg.Msg) { m.Truncated = true }, cut, nil},
		"another ID, cut off":              {func(m *miekg.Msg) { m.Id++ }, cut, ErrStray},
		"an error without a question, cut": {func(m *miekg.Msg) { m.Question, m.Rcode = nil, miekg.RcodeFormatError }, cut, ErrStray},
	} {
		m := new(miekg.Msg).SetQuestion("example.com.", miekg.TypeMX)
		m.Id, m.Response = id, true
		m.Answer = []miekg.RR{&miekg.MX{Hdr: miekg.RR_Header{Name: "example.com.", Rrtype: miekg.TypeMX, Class: miekg.ClassINET}, Mx: "mx.example.com."}}
		c.change(m)
		octets, err := m.Pack()
		require.NoError(t, err)
		a, err := Read(octets[:len(octets)-c.cut], id, q)
		require.ErrorIs(t, err, c.want, name)
		require.Equal(t, c.want == nil, a != nil, name)
		if a != nil {
			require.Equal(t, m.Truncated, a.Truncated(), name)
			require.Equal(t, len(m.Question) > 0, a.HasQuestion(), name)
			require.Equal(t, m.Rcode == miekg.RcodeSuccess, a.Useful(), name)
		}
	}
	for _, octets := range []string{"", "\x12\x67", "\x12\x67\x81\x80\x00\x01\x00\x00\x00\x00\x00"} {
		_, err := Read([]byte(octets), id, q)
		require.ErrorIs(t, err, ErrStray, "no header")
	}
}

// The caller reads the next message into the same buffer.
func TestAnAnswerDoesNotReferToTheOctets(t *testing.T) {
	t.Parallel()
	for record, ty := range map[string]dns.Type{
		"MX 10 mx.example.": dns.TypeMX, "A 192.0.2.1": dns.TypeA, "AAAA 2001:db8::1": dns.TypeAAAA, "CNAME b.example.": dns.TypeCNAME,
		`TXT "v=STSv1; id=1"`: dns.TypeTXT, "TLSA 3 1 1 abcd": dns.TypeTLSA,
	} {
		q := queryFor(t, dns.Question{Name: "a.example", Type: ty})
		m := new(miekg.Msg).SetQuestion(q.Name, uint16(ty))
		m.Response = true
		rr, err := miekg.NewRR("a.example. 60 IN " + record)
		require.NoError(t, err)
		m.Answer = []miekg.RR{rr}
		octets, err := m.Pack()
		require.NoError(t, err)
		a, err := Read(octets, m.Id, q)
		require.NoError(t, err)
		want, _, err := a.RRset(q, false)
		require.NoError(t, err)
		before := want.Data()
		require.Len(t, before, 1)
		clear(octets)
		got, _, err := a.RRset(q, false)
		require.NoError(t, err)
		require.Equal(t, before, got.Data(), record)
		require.Equal(t, before, want.Data(), record)
	}
}

// The longest name fits, and is the one that was asked for.
func TestPack(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 61) + "."
	longest := label + label + label + label + "abcde" // 255 octets on the wire
	for name, size := range map[string]int{"": 28, "example.com": 40, longest: MaxQuery} {
		q := queryFor(t, dns.Question{Name: name, Type: dns.TypeTLSA})
		octets, err := q.Pack(make([]byte, MaxQuery))
		require.NoError(t, err)
		require.Len(t, octets, size)
		m := new(miekg.Msg)
		require.NoError(t, m.Unpack(octets))
		require.Equal(t, []miekg.Question{{Name: name + ".", Qtype: miekg.TypeTLSA, Qclass: miekg.ClassINET}}, m.Question)
		require.Equal(t, dns.Question{Name: name, Type: dns.TypeTLSA}, q.Question())
	}
	_, ok := NewQuery(dns.Question{Name: longest + "f", Type: dns.TypeTLSA})
	require.False(t, ok)
}

// Of the signatures over the type that was asked for, the first that expires counts.
func TestSignatureExpires(t *testing.T) {
	t.Parallel()
	signature := func(covered, expires string) string {
		return "a.example. 60 IN RRSIG " + covered + " 13 2 60 " + expires + " 20260101000000 1 example. AAAA"
	}
	a := message(t, miekg.RcodeSuccess, "a.example. 60 IN MX 10 mx.example.", signature("MX", "20270301000000"),
		signature("MX", "20270201000000"), signature("A", "20260201000000"))
	end, ok := a.SignatureExpires(dns.TypeMX)
	require.True(t, ok)
	require.True(t, end.Equal(time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)), end)
	_, ok = a.SignatureExpires(dns.TypeTXT)
	require.False(t, ok)
}
