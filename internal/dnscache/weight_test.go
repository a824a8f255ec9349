package dnscache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// A live secure answer of the largest possible size stays when a failure is stored beside it.
func TestTheWeightOfAFailureDisplacesNoAnswer(t *testing.T) {
	t.Parallel()
	c := New(nil, Options{MaxEntries: 64})
	q := dns.Question{Name: "_25._tcp.mx.example", Type: dns.TypeTLSA}
	r := &dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type, Status: dns.Secure, Expires: time.Now().Add(time.Hour)}
	stored := func() bool {
		require.Same(t, r, c.store(q, r, nil, c.shardOf(q).flushes.Load()))
		got, err := c.remembered(q, dns.Effort{}, false)
		return err == nil && len(got.TLSA()) == len(r.TLSA())
	}
	for stored() {
		r.Records = append(r.TLSA(), dns.TLSA{Usage: 3, Data: make([]byte, 1024)})
		c.Flush(dns.Matching(""))
	}
	r.Records = r.TLSA()[1:]
	require.True(t, stored())
	for range 2 {
		got := c.store(q, nil, &dns.Error{Question: q, Reason: "SERVFAIL"}, c.shardOf(q).flushes.Load())
		require.Len(t, got.TLSA(), len(r.TLSA()))
		got, err := c.remembered(q, dns.Effort{}, false)
		require.NoError(t, err)
		require.Len(t, got.TLSA(), len(r.TLSA()))
	}
}
