package dnscache

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// A node returns what was put into it: each kind of records and each flag, with or without a failure, and beside other
// entries of the name.
func TestPack(t *testing.T) {
	c := New(nil, Options{})
	s := c.shardOf(mxOf("host.example"))
	at := func(d time.Duration) time.Time { return s.origin.Add(d) }
	answers := []dns.RRset{
		{Type: dns.TypeMX, Records: []dns.MX{{Preference: 65535, Host: "mx.example"}, {Host: ""}, {Preference: 1, Host: strings.Repeat("x", 300)}}},
		{Type: dns.TypeA, Records: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.255")}},
		{Type: dns.TypeAAAA, Records: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1")}},
		{Type: dns.TypeTLSA, Records: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 255, Data: []byte{0, 1}}, {Data: []byte{}}}},
		{Type: dns.TypeTXT, Records: []string{"", "v=STSv1; id=1;", strings.Repeat("\xff", 5000)}},
		{Type: dns.TypeCNAME, Records: []string{"other.example"}},
		{Type: dns.TypeNS, Records: []string{"ns.example"}},
		{Type: 99},
		{Type: 99 + 1<<8, NXDomain: true}, // no type is another modulo 256
	}
	want := map[dns.Question]*entry{}
	for i, r := range answers {
		for j, labels := range nodeLabels {
			q := dns.Question{Name: labels + "host.example", Type: r.Type}
			r.Name, r.Owner, r.Status = q.Name, q.Name, dns.Insecure+dns.Status((i+j)%2)
			r.Epoch, r.Expires, r.Stale = uint32(i<<12), at(time.Duration(i)*time.Hour), j%2 == 0
			if j%3 == 0 {
				r.Owner = "alias.example"
			}
			e := &entry{RRset: r, data: r.Pack(), ttl: time.Until(r.Expires).Round(time.Second), warned: j == 2}
			e.Records = nil
			if j == 3 {
				if i == 1 {
					*e = unknown(q)
					e.Epoch, e.Expires = r.Epoch, s.origin
				}
				e.backOff, e.retry = 5*time.Minute, at(1<<31*packedUnit)
				e.failure = dns.Error{Question: q, Reason: "SERVFAIL", Bogus: i%2 == 0, Epoch: dns.Epoch{Answers: r.Epoch, Failures: 1 << 31}}
			}
			if i != 1 || j != 3 {
				require.Equal(t, &r, e.answer())
			}
			s.put(s.nodeWith(q, e))
			want[q] = e
		}
	}
	require.Equal(t, 1, s.nodes.ItemCount())
	require.Equal(t, len(want), s.count)
	for q, e := range want {
		got, _ := s.get(q, dns.Epoch{Answers: e.Epoch, Failures: e.failure.Epoch.Failures})
		require.Equal(t, *e, got)
	}
	for q := range want {
		s.put(s.nodeWith(q, nil))
		got, _ := s.get(q, dns.Epoch{})
		require.Equal(t, unknown(q), got)
	}
	require.Zero(t, s.nodes.ItemCount())
	s.sound(t)
}
