package promises

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

// A record that an earlier version has written is read, and written as it was. A record that differs from what a record
// can be is refused as a whole.
func TestTheFormOnDisk(t *testing.T) {
	t.Parallel()
	const onDisk = "01" + "51205130000301" + "00010101" + "0000000000000000000000" + "51205120000100" + "00000001" +
		"0000000066000000" + "01" + "0000000066000001"
	b, err := hex.DecodeString(onDisk)
	require.NoError(t, err)
	r, err := decodeRecord("", b)
	require.NoError(t, err)
	require.Equal(t, record{
		seen: sightings{{First: 0x5120, Last: 0x5130, Days: 3, Signed: true, Recent: 0x10101}, {}, {First: 0x5120, Last: 0x5120, Days: 1, Recent: 1}},
		held: 0x66000000, released: true, missing: 0x66000001,
	}, r)
	require.Equal(t, b, encode(r.saved()))

	for name, change := range map[string]func(b []byte) []byte{
		"too short":                       func(b []byte) []byte { return b[:len(b)-1] },
		"too long":                        func(b []byte) []byte { return append(b, 0) },
		"another version":                 func(b []byte) []byte { b[0] = 2; return b },
		"neither signed nor not":          func(b []byte) []byte { b[7] = 2; return b },
		"not seen on its last day":        func(b []byte) []byte { b[11] = 0; return b },
		"first seen after the last day":   func(b []byte) []byte { b[1] = 0x60; return b },
		"seen on no day, with a last day": func(b []byte) []byte { b[14] = 1; return b },
		"a time after the last moment":    func(b []byte) []byte { b[34] = 1; return b },
	} {
		_, err := decodeRecord("", change(append([]byte{}, b...)))
		require.ErrorIs(t, err, errEncoding, name)
	}
}
