package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
)

func TestParseNexthop(t *testing.T) {
	t.Parallel()
	good := func(key, want string) {
		t.Helper()
		n, ok := policy.ParseNexthop(key, 26)
		require.True(t, ok, "%q", key)
		require.Equal(t, want, n.String(), "%q", key)
	}
	bad := func(why string, keys ...string) {
		t.Helper()
		for _, key := range keys {
			n, ok := policy.ParseNexthop(key, 26)
			require.False(t, ok, "%s: %q gave %v", why, key, n)
		}
	}
	good("example.com", "example.com")
	good("EXAMPLE.com.", "example.com")
	good("example.com:25", "example.com")
	good("example.com:smtp", "example.com")
	good("example.com:026", "example.com:26")
	good("example.com:26", "example.com:26")
	good("[mx.example.com]", "[mx.example.com]")
	good("[MX.example.com.]:25", "[mx.example.com]")
	good("[mx.example.com]:smtp", "[mx.example.com]")
	good("[mx.example.com]:26", "[mx.example.com]:26")
	good("münchen.example", "xn--mnchen-3ya.example")
	good("MÜNCHEN.example:26", "xn--mnchen-3ya.example:26")
	good("münchen。example", "xn--mnchen-3ya.example")
	good("_x.münchen.example", "_x.xn--mnchen-3ya.example")
	good("faß.example", "xn--fa-hia.example")
	good("[münchen.example]", "[xn--mnchen-3ya.example]")
	good("my_domain.example", "my_domain.example")
	good("_dmarc.example.com", "_dmarc.example.com")
	good("r3---sn.example", "r3---sn.example")
	good("localhost", "localhost")

	bad("a parent-domain key", ".example.com", ".com", ".")
	bad("not a name", "*", "", " ", "example.com ", " example.com", "exa mple.com", "example..com", "-a.example", "a-.example", "a\x00b.example", "\"a\".example", "a,b.example", "a\\032b.example")
	bad("not UTF-8", "m\xfcnchen.example", "\xff\xfe")
	bad("an address literal", "[192.0.2.1]", "192.0.2.1", "[IPv6:2001:db8::1]", "[2001:db8::1]", "[192.0.2.1]:26", "2001:db8::1", "[::1]:26", "１９２.０.２.１")
	bad("an e-mail address", "user@example.com", "@example.com", "a@b@example.com")
	bad("another port", "example.com:587", "[mx.example.com]:465", "example.com:submission", "example.com:smtps", "example.com:65536", "example.com:99999999999")
	bad("not a port", "example.com:", "example.com:0", "example.com:+25", "example.com:-25", "example.com: 25", "example.com:25:25", "[mx.example.com]:", "example.com:SMTP ")
	bad("brackets", "[mx.example.com", "mx.example.com]", "[]", "[[mx.example.com]]", "[mx.example.com]x", "[mx.example.com]25")
	bad("too long", strings.Repeat("a.", 127)+"example", strings.Repeat("x", 64)+".example", strings.Repeat("ü.", 3000)+"example", strings.Repeat("x", 10000))
}

func TestParseNexthopOnAnotherPort(t *testing.T) {
	t.Parallel()
	n, ok := policy.ParseNexthop("example.com:2626", 2626)
	require.True(t, ok)
	require.Equal(t, policy.Nexthop{Name: "example.com", Port: 2626}, n)
	_, ok = policy.ParseNexthop("example.com:26", 2626)
	require.False(t, ok)
}

func FuzzParseNexthop(f *testing.F) {
	for _, s := range []string{"example.com", "[mx.example.com]:26", "münchen.example:smtp", "user@example.com", "*", "a。b", "xn--\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		n, ok := policy.ParseNexthop(key, 26)
		if !ok {
			return
		}
		require.True(t, prefix.ValidHost(n.Name), "a name that is looked up is a host name")
		require.Equal(t, strings.ToLower(n.Name), n.Name)
		require.Contains(t, []uint16{25, 26}, n.Port)
		again, ok := policy.ParseNexthop(n.String(), 26)
		require.True(t, ok)
		require.Equal(t, n, again, "what is written is read back")
	})
}
