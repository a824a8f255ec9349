package dnscache

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
)

// A live secure answer that is as large as one may be stays when a failure is noted beside it.
func TestTheWeightOfAFailureDisplacesNoAnswer(t *testing.T) {
	t.Parallel()
	c := New(nil, Options{MaxEntries: 64})
	q := dns.Question{Name: "_25._tcp.mx.example", Type: dns.TypeTLSA}
	r := &dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type, Status: dns.Secure, Expires: time.Now().Add(time.Hour)}
	largest := c.shards[0].bytesLimit / 4
	for newEntry(q, r, time.Now()).weigh() <= largest {
		r.Records = append(r.TLSA(), dns.TLSA{Usage: 3})
	}
	r.Records = r.TLSA()[1:]
	require.Same(t, r, c.store(q, r))
	for range 2 {
		got, err := c.storeFailure(q, &dns.Error{Question: q, Reason: "SERVFAIL"})
		require.NoError(t, err)
		require.Same(t, r, got)
		got, err = c.remembered(q, dns.Effort{})
		require.NoError(t, err)
		require.Same(t, r, got)
	}
}
