package stub

import (
	"encoding/binary"
	"net"
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// The library takes a message that ends before its last record for one that has no more. Without the records that were
// cut off it would be a denial, or an RRset of which the rest is missing, with the AD bit on it.
func TestAMessageThatIsCutShortIsNone(t *testing.T) {
	t.Parallel()
	const question, answer, authority, additional = 4, 6, 8, 10 // where in the header the counts are
	m := message(t, miekg.RcodeSuccess, "a.example. 60 IN MX 10 mx.example.", "--", soa)
	m.SetQuestion("a.example.", miekg.TypeMX)
	sound, err := m.Pack()
	require.NoError(t, err)
	read := map[string]func([]byte) (*miekg.Msg, error){
		"UDP": func(wire []byte) (*miekg.Msg, error) {
			return readDatagram(saying(t, wire), new(datagram))
		},
		"TCP": func(wire []byte) (*miekg.Msg, error) {
			return readStream(&miekg.Conn{Conn: saying(t, append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...))})
		},
	}
	for name, read := range read {
		got, err := read(sound)
		require.NoError(t, err, name)
		require.Len(t, got.Answer, 1, name)
		for _, count := range []int{question, answer, authority, additional} {
			wire := append([]byte(nil), sound...)
			wire[count+1]++
			got, err := read(wire)
			require.Error(t, err, "%s, count at %d", name, count)
			require.Nil(t, got, name)
		}
	}
}

// saying is a connection on which some octets arrive.
func saying(t *testing.T, octets []byte) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		_, _ = there.Write(octets)
		_ = there.Close()
	}()
	t.Cleanup(func() { _ = here.Close() })
	return here
}
