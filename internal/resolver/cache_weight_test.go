package resolver

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A live secure answer that is as large as one may be stays when a failure is noted beside it.
func TestTheWeightOfAFailureDisplacesNoAnswer(t *testing.T) {
	t.Parallel()
	c := NewCache(nil, CacheOptions{MaxEntries: 64})
	q := Question{Name: "_25._tcp.mx.example", Type: TypeTLSA}
	r := &RRset{Name: q.Name, Owner: q.Name, Type: q.Type, Status: Secure, Expires: time.Now().Add(time.Hour)}
	largest := c.shards[0].bytesLimit / 4
	for newEntry(q, r, time.Now()).weigh() <= largest {
		r.TLSA = append(r.TLSA, TLSA{Usage: 3})
	}
	r.TLSA = r.TLSA[1:]
	_, err := c.store(q, r, nil, Generation{})
	require.NoError(t, err)
	for range 2 {
		got, err := c.store(q, nil, errors.New("SERVFAIL"), Generation{})
		require.NoError(t, err)
		require.Same(t, r, got)
		got, err = c.remembered(q)
		require.NoError(t, err)
		require.Same(t, r, got)
	}
}
