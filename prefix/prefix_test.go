package prefix_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/prefix"
)

func ExampleOf() {
	for _, host := range []string{"starttls-mx1.example.com", "SMTPS-a.example.com.", "mx.example.com"} {
		fmt.Println(host, prefix.Of(host))
	}
	// Output:
	// starttls-mx1.example.com starttls
	// SMTPS-a.example.com. smtps
	// mx.example.com none
}

func ExampleClass() {
	for _, c := range prefix.Classes() {
		fmt.Printf("%s %v on port 25, %v on port 26: %s\n", c.Prefix(), c.Promises(25), c.Promises(26), c.Promise())
	}
	// Output:
	// starttls- true on port 25, false on port 26: STARTTLS
	// smtps- true on port 25, true on port 26: STARTTLS and implicit TLS
}

// Classes, constants and descriptions agree.
func TestClasses(t *testing.T) {
	t.Parallel()
	for i, c := range prefix.Classes() {
		require.Equal(t, prefix.Class(i+1), c, "Classes lists every class in order")
		require.Equal(t, c.String()+"-", c.Prefix())
		require.Equal(t, c, prefix.Of(c.Prefix()+"a.example"))
		require.True(t, c.Promises(prefix.SMTPPort))
		require.Equal(t, c.ImplicitTLS(), c.Promises(prefix.ImplicitTLSPort))
		require.Equal(t, c.ImplicitTLS(), c.Promises(2626))
	}
	for _, none := range []prefix.Class{prefix.None, prefix.Class(len(prefix.Classes()) + 1), 255} {
		require.Equal(t, "none", none.String())
		require.Equal(t, "nothing", none.Promise())
		require.Empty(t, none.Prefix())
		require.False(t, none.Promises(prefix.SMTPPort) || none.Promises(prefix.ImplicitTLSPort) || none.ImplicitTLS())
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	for _, c := range []struct {
		rule string
		want prefix.Class
		host []string
	}{
		{"the leftmost label begins with the prefix", prefix.STARTTLS, []string{"starttls-mx.example.com", "starttls-1.example.com", "starttls-a-b.example.com", "starttls-mx"}},
		{"the leftmost label begins with the prefix", prefix.SMTPS, []string{"smtps-mx.example.com", "smtps-1", "smtps-xn--mnchen-3ya.example.com"}},
		{"ASCII case-insensitive", prefix.STARTTLS, []string{"STARTTLS-MX.EXAMPLE.COM", "StartTLS-mx.example.com"}},
		{"ASCII case-insensitive", prefix.SMTPS, []string{"SMTPS-mx.example.com", "sMtPs-mx.example.com"}},
		{"ASCII only", prefix.None, []string{"ſmtps-mx.example.com", "ѕmtps-mx.example.com", "ｓmtps-a.example.com"}},
		{"one final dot", prefix.SMTPS, []string{"smtps-mx.example.com."}},
		{"one final dot", prefix.None, []string{"smtps-mx.example.com..", "smtps-mx..", "."}},
		{"something must follow within the label", prefix.None, []string{"smtps.example.com", "smtps-.example.com", "starttls-", "starttls-.", "smtps-", "starttls.example.com"}},
		{"something valid must follow: not starting or ending in a hyphen", prefix.None, []string{"smtps--a.example.com", "smtps-a-.example.com", "starttls--.example.com"}},
		{"something valid must follow: LDH", prefix.None, []string{"smtps-a_b.example.com", "smtps-a b.example.com", `smtps-a\032b.example.com`, `smtps-a\.b.example.com`, "smtps-é.example.com", "smtps-a\x00.example.com", "smtps-*.example.com", "smtps-a:b.example.com", "smtps-a,b.example.com"}},
		{"nothing precedes the prefix", prefix.None, []string{"xsmtps-a.example.com", "a-smtps-b.example.com", "-smtps-a.example.com", " smtps-a.example.com"}},
		{"of the leftmost label", prefix.None, []string{"mx.smtps-a.example.com", "mx.starttls-a.com"}},
		{"only the first prefix counts", prefix.SMTPS, []string{"smtps-starttls-x.example.com"}},
		{"only the first prefix counts", prefix.STARTTLS, []string{"starttls-smtps-x.example.com"}},
		{"there are only two prefixes", prefix.None, []string{"tls-a.example.com", "smtp-a.example.com", "starttls_a.example.com", "starttlss-a.example.com", "smtps26-a.example.com"}},
		{"other labels may have underscores", prefix.SMTPS, []string{"smtps-a._x.example.com"}},
		{"the whole name is a host name", prefix.None, []string{"smtps-a..example.com", "smtps-a.-b.example.com", "smtps-a.b-.example.com", "smtps-a.exa mple.com", "smtps-" + long + ".example.com", "smtps-a." + strings.Repeat("x.", 124) + "com"}},
		{"253 octets", prefix.SMTPS, []string{"smtps-a." + strings.Repeat("x.", 121) + "com", "smtps-" + long[:57] + ".example.com"}},
		{"not a host name", prefix.None, []string{"", "192.0.2.1", "[192.0.2.1]"}},
	} {
		for _, host := range c.host {
			require.Equal(t, c.want, prefix.Of(host), "%s: %q", c.rule, host)
		}
	}
	require.Equal(t, prefix.None, prefix.Class(0), "the zero value promises nothing")
	require.Equal(t, "none", prefix.Class(9).String())
}

func TestValidHost(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "a.b", "A-B.example", "_dmarc.example", "1a", "1.2.3.a", "xn--a", strings.Repeat("x", 63) + ".example"} {
		require.True(t, prefix.ValidHost(s), "%q", s)
	}
	for _, s := range []string{"", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a-.b", "1.2.3.4", "12", "1.2.", "a b", "a\tb", "a/b", "ü", "a\x00", "[a]", "a:b", strings.Repeat("x", 64), strings.Repeat("a.", 127)} {
		require.False(t, prefix.ValidHost(s), "%q", s)
	}
}

func FuzzOf(f *testing.F) {
	for _, s := range []string{"starttls-a.example.com", "SMTPS-b.example.com.", "smtps-", "xsmtps-a", "smtps-ſ.example", `smtps-\032`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		c := prefix.Of(host)
		require.Equal(t, c, prefix.Of(asciiUpper(host)), "case makes no difference")
		if c == prefix.None {
			return
		}
		name := strings.TrimSuffix(host, ".")
		require.True(t, prefix.ValidHost(name), "only a host name can promise")
		require.Equal(t, c, prefix.Of(name), "a final dot makes no difference")
		require.True(t, strings.HasPrefix(strings.ToLower(name), c.String()+"-"))
		require.Equal(t, prefix.None, prefix.Of("x"+name), "nothing may precede the prefix")
	})
}

func asciiUpper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
