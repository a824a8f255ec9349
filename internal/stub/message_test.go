package stub

import (
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// The library accepts a message that ends before its last record as one with fewer records. That would be a denial,
// or a part of an RRset, with the AD bit set.
func TestAMessageThatEndsEarlyIsMalformed(t *testing.T) {
	t.Parallel()
	const question, answer, authority, additional = 4, 6, 8, 10 // where in the header the counts are
	m := message(t, miekg.RcodeSuccess, "a.example. 60 IN MX 10 mx.example.", "--", soa)
	m.SetQuestion("a.example.", miekg.TypeMX)
	sound, err := m.Pack()
	require.NoError(t, err)
	got, err := parse(sound)
	require.NoError(t, err)
	require.Len(t, got.Answer, 1)
	for _, count := range []int{question, answer, authority, additional} {
		wire := append([]byte(nil), sound...)
		wire[count+1]++
		_, err := parse(wire)
		require.ErrorIs(t, err, errMalformed, "count at %d", count)
	}
}
