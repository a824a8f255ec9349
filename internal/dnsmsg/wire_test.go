package dnsmsg

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
	m := &message(t, miekg.RcodeSuccess, "a.example. 60 IN MX 10 mx.example.", "--", soa).msg
	m.SetQuestion("a.example.", miekg.TypeMX)
	sound, err := m.Pack()
	require.NoError(t, err)
	got, err := parse(sound)
	require.NoError(t, err)
	require.Len(t, got.msg.Answer, 1)
	for _, count := range []int{question, answer, authority, additional} {
		wire := append([]byte(nil), sound...)
		wire[count+1]++
		_, err := parse(wire)
		require.ErrorIs(t, err, ErrMalformed, "count at %d", count)
	}
}

// A record whose data policyd does not use may be malformed: the library would refuse the whole message.
func TestARecordThatIsNotUsedMayBeMalformed(t *testing.T) {
	t.Parallel()
	nsec3 := &miekg.RFC3597{Rdata: "0100000005aa", Hdr: miekg.RR_Header{
		Name: "x.example.", Rrtype: miekg.TypeNSEC3, Class: miekg.ClassINET, Rdlength: 6,
	}}
	m := &message(t, miekg.RcodeSuccess, "a.example. 60 IN MX 10 mx.example.", "--", soa).msg
	m.SetQuestion("a.example.", miekg.TypeMX)
	m.Ns = append(m.Ns, nsec3)
	octets, err := m.Pack()
	require.NoError(t, err)
	require.Error(t, new(miekg.Msg).Unpack(octets))
	got, err := parse(octets)
	require.NoError(t, err)
	require.Len(t, got.msg.Answer, 1)
	require.Len(t, got.msg.Ns, 2)
}
