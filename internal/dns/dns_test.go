package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func TestData(t *testing.T) {
	for want, r := range map[string]RRset{
		"[]":                             {},
		"[0 .]":                          {Records: []MX{{Preference: 0, Host: ""}}},
		"[5 a.example 10 b.example]":     {Records: []MX{{Preference: 5, Host: "a.example"}, {Preference: 10, Host: "b.example"}}},
		"[192.0.2.1 2001:db8::1]":        {Records: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}},
		"[2 0 1 00ff 3 1 0 ]":            {Records: []TLSA{{Usage: 2, Selector: 0, MatchingType: 1, Data: []byte{0, 255}}, {Usage: 3, Selector: 1, MatchingType: 0}}},
		`["v=STSv1; id=1" "\x00\xff\""]`: {Records: []string{"v=STSv1; id=1", "\x00\xff\""}},
		"[ns.example]":                   {Type: TypeNS, Records: []string{"ns.example"}},
	} {
		require.Equal(t, want, fmt.Sprint(r.Data()))
	}
}

// Only ASCII letters have a lower case: U+212A, the Kelvin sign, is not a k.
func TestLower(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "a.example": "a.example", "A.ExAmple": "a.example", "\u212a.example": "\u212a.example", "\xc4.X": "\xc4.x",
	} {
		require.Equal(t, want, Lower(name))
	}
}

// The final dot is removed unless it is escaped.
func TestTrimRoot(t *testing.T) {
	for name, want := range map[string]string{
		"": "", ".": "", "a.example.": "a.example", "a.example": "a.example", `a.example\.`: `a.example\.`, `a\\.`: `a\\`,
	} {
		require.Equal(t, want, TrimRoot(name))
	}
}

// FuzzNames: a name that was read from the wire stays the same when it is written and read again.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"Example.COM.", `a\.b.example`, `\000\255.example`, `a\`, "a..b", strings.Repeat("abcdefg.", 31) + "abcdef", strings.Repeat("abcdefg.", 32), "", ".", "\xff", "\u212a.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		fqdn, ok := OnWire(name)
		if !ok {
			return
		}
		again, ok := OnWire(TrimRoot(fqdn))
		require.True(t, ok)
		require.Equal(t, fqdn, again)
		require.Equal(t, fqdn, miekg.Fqdn(TrimRoot(fqdn)))
		wire := make([]byte, 255)
		n, err := miekg.PackDomainName(fqdn, wire, 0, nil, false)
		require.NoError(t, err)
		read, _, err := miekg.UnpackDomainName(wire[:n], 0)
		require.NoError(t, err)
		require.Equal(t, fqdn, Lower(read))
		require.Equal(t, -1, strings.IndexFunc(fqdn, func(r rune) bool { return r < ' ' || r > '~' }), "printable ASCII")
	})
}
