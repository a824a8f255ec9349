package mtasts_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/mtasts"
)

// lines joins lines as a policy host sends them.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	const head = "version: STSv1\nmode: enforce\nmax_age: 86400\n"
	long := strings.Repeat("a", 63)
	for _, c := range []struct {
		name, body string
		mode       mtasts.Mode
		age        int
		mx         string
	}{
		{
			"the example of RFC 8461 section 3.2",
			lines("version: STSv1", "mode: enforce", "mx: mail.example.com", "mx: *.example.net", "mx: backupmx.example.com", "max_age: 604800"),
			mtasts.Enforce, 604800, "mail.example.com *.example.net backupmx.example.com",
		},
		{"sts-policy-term is LF too", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 1\n", mtasts.Testing, 1, "a.example"},
		{"line ends may be mixed", "version: STSv1\r\nmode: testing\nmx: a.example\r\nmax_age: 1", mtasts.Testing, 1, "a.example"},
		{"the last sts-policy-term is optional", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 1", mtasts.Testing, 1, "a.example"},
		{"empty lines at the end, as many serve them", head + "mx: a.example\n\n\r\n", mtasts.Enforce, 86400, "a.example"},
		{"fields come in any order", "max_age: 5\nmx: a.example\nmode: enforce\nversion: STSv1\n", mtasts.Enforce, 5, "a.example"},
		{"sts-policy-field-delim is a colon and any blanks, or none", "version:STSv1\nmode:\tenforce\nmx:  \t a.example\nmax_age:5", mtasts.Enforce, 5, "a.example"},
		{"blanks after a field", "version: STSv1 \nmode: enforce\t\nmx: a.example  \r\nmax_age: 5 ", mtasts.Enforce, 5, "a.example"},
		{"mx is required at least once, except when mode is none", "version: STSv1\nmode: none\nmax_age: 86400\n", mtasts.None, 86400, ""},
		{"mode none may have an mx", "version: STSv1\nmode: none\nmax_age: 86400\nmx: a.example\n", mtasts.None, 86400, "a.example"},
		{"unknown fields SHALL be ignored", head + "mx: a.example\nfuture-field_1.x: any thing: at = all ; ✉\n", mtasts.Enforce, 86400, "a.example"},
		{"names of fields have a case, so these are unknown", head + "mx: a.example\nMode: none\nMX: b.example\n", mtasts.Enforce, 86400, "a.example"},
		{"of a duplicated field all entries except the first SHALL be ignored", head + "mx: a.example\nmode: none\nmax_age: 0\nversion: STSv2\n", mtasts.Enforce, 86400, "a.example"},
		{"max_age of zero", "version: STSv1\nmode: none\nmax_age: 0\n", mtasts.None, 0, ""},
		{"maximum value of 31557600", "version: STSv1\nmode: none\nmax_age: 31557600\n", mtasts.None, 31557600, ""},
		{"max_age is up to ten digits", "version: STSv1\nmode: none\nmax_age: 0000086400\n", mtasts.None, 86400, ""},
		{"hosts have no case", head + "mx: MAIL.Example.COM\nmx: mail.example.com\n", mtasts.Enforce, 86400, "mail.example.com"},
		{"a host of one label", head + "mx: localhost\n", mtasts.Enforce, 86400, "localhost"},
		{"A-labels", head + "mx: xn--mnchen-3ya.example\n", mtasts.Enforce, 86400, "xn--mnchen-3ya.example"},
		{"a label of 63 octets", head + "mx: *." + long + ".example\n", mtasts.Enforce, 86400, "*." + long + ".example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := mtasts.ParsePolicy([]byte(c.body))
			require.NoError(t, err)
			require.Equal(t, c.mode, p.Mode)
			require.Equal(t, time.Duration(c.age)*time.Second, p.MaxAge)
			require.Equal(t, c.mx, strings.Join(p.MX, " "))
		})
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	const head = "version: STSv1\nmode: enforce\nmax_age: 86400\n"
	for _, c := range []struct{ name, body string }{
		{"nothing", ""},
		{"blanks only", "\n \r\n"},
		{"a web page", "<html><body>Not here</body></html>"},
		{"no version", "mode: enforce\nmax_age: 86400\nmx: a.example\n"},
		{"no mode", "version: STSv1\nmax_age: 86400\nmx: a.example\n"},
		{"no max_age", "version: STSv1\nmode: enforce\nmx: a.example\n"},
		{"no mx", head},
		{"no mx in mode testing", "version: STSv1\nmode: testing\nmax_age: 86400\n"},
		{"another version", "version: STSv2\nmode: enforce\nmax_age: 86400\nmx: a.example\n"},
		{"a version in another case", "version: stsv1\nmode: enforce\nmax_age: 86400\nmx: a.example\n"},
		{"a mode in another case", "version: STSv1\nmode: Enforce\nmax_age: 86400\nmx: a.example\n"},
		{"an unknown mode", "version: STSv1\nmode: report\nmax_age: 86400\nmx: a.example\n"},
		{"a wrong mode before a right one", "version: STSv1\nmode: report\nmode: enforce\nmax_age: 86400\nmx: a.example\n"},
		{"a max_age that is not a number, however long", "version: STSv1\nmode: none\nmax_age: 99999999999999999999999x\n"},
		{"a max_age with blanks in it", "version: STSv1\nmode: none\nmax_age: 86 400\n"},
		{"a hexadecimal max_age", "version: STSv1\nmode: none\nmax_age: 0x15180\n"},
		{"a max_age with an exponent", "version: STSv1\nmode: none\nmax_age: 1e9\n"},
		{"a negative max_age", "version: STSv1\nmode: none\nmax_age: -1\n"},
		{"a signed max_age", "version: STSv1\nmode: none\nmax_age: +1\n"},
		{"a max_age with a fraction", "version: STSv1\nmode: none\nmax_age: 1.5\n"},
		{"a max_age with a unit", "version: STSv1\nmode: none\nmax_age: 1d\n"},
		{"a max_age in other digits", "version: STSv1\nmode: none\nmax_age: ١\n"},
		{"an empty value", head + "mx:\n"},
		{"an unknown field without a value", head + "mx: a.example\nx:\n"},
		{"an empty line between", "version: STSv1\n\nmode: enforce\nmax_age: 86400\nmx: a.example\n"},
		{"an empty line before", "\n" + head + "mx: a.example\n"},
		{"a line without a colon", head + "mx: a.example\nmode\n"},
		{"a blank before the colon", head + "mx : a.example\n"},
		{"a blank before the name", " version: STSv1\nmode: enforce\nmax_age: 86400\nmx: a.example\n"},
		{"a name that begins with a hyphen", head + "mx: a.example\n-x: y\n"},
		{"a name of 33 octets", head + "mx: a.example\n" + strings.Repeat("x", 33) + ": y\n"},
		{"semicolons as in the record", "version=STSv1; mode=enforce; max_age=86400; mx=a.example"},
		{"CR alone ends no line", "version: STSv1\rmode: none\rmax_age: 86400\r"},
		{"CR CR LF", "version: STSv1\r\r\nmode: none\r\r\nmax_age: 86400\r\r\n"},
		{"a control character", head + "mx: a.example\nx: a\x00b\n"},
		{"DEL", head + "mx: a.example\nx: a\x7fb\n"},
		{"a tab within a value", head + "mx: a.example\nx: a\tb\n"},
		{"Latin-1", head + "mx: a.example\nx: \xe9\n"},
		{"a byte order mark", "\ufeff" + head + "mx: a.example\n"},
		{"two hosts on a line", head + "mx: a.example b.example\n"},
		{"two hosts with a comma", head + "mx: a.example,b.example\n"},
		{"a list of hosts", head + "mx: [a.example]\n"},
		{"a star alone", head + "mx: *\n"},
		{"a star and a dot", head + "mx: *.\n"},
		{"a star within a label", head + "mx: mx*.example.com\n"},
		{"a star in the second label", head + "mx: mx.*.example.com\n"},
		{"two stars", head + "mx: *.*.example.com\n"},
		{"a domain with a leading dot, as in drafts", head + "mx: .example.com\n"},
		{"a final dot", head + "mx: mx.example.com.\n"},
		{"an underscore", head + "mx: m_x.example.com\n"},
		{"a hyphen at the end of a label", head + "mx: mx-.example.com\n"},
		{"a U-label", head + "mx: münchen.example\n"},
		{"a port", head + "mx: mx.example.com:25\n"},
		{"an address literal", head + "mx: [192.0.2.1]\n"},
		{"a label of 64 octets", head + "mx: " + strings.Repeat("a", 64) + ".example\n"},
		{"a name of over 253 octets", head + "mx: " + strings.Repeat("a.", 126) + "aa\n"},
		{"over 64 KiB", head + "mx: a.example\nx: " + strings.Repeat("y", 64<<10) + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := mtasts.ParsePolicy([]byte(c.body))
			require.ErrorContains(t, err, "mtasts: malformed policy: ")
			require.Equal(t, mtasts.Policy{}, p)
		})
	}
}

// A domain with a max_age over the maximum asks for protection: it gets the maximum (erratum 7282).
func TestMaxAgeIsCapped(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"0":                             0,
		"31557599":                      mtasts.MaxMaxAge - time.Second,
		"31557600":                      mtasts.MaxMaxAge,
		"31557601":                      mtasts.MaxMaxAge,
		"100000000":                     mtasts.MaxMaxAge,
		"4294967296":                    mtasts.MaxMaxAge,
		"9999999999":                    mtasts.MaxMaxAge,
		"00000086400":                   24 * time.Hour,
		"9223372036854775808":           mtasts.MaxMaxAge, // beyond int64
		"18446744073709551616":          mtasts.MaxMaxAge, // beyond uint64
		"18446744073709551617":          mtasts.MaxMaxAge,
		"1" + strings.Repeat("0", 500):  mtasts.MaxMaxAge,
		strings.Repeat("0", 500) + "60": time.Minute,
		"9223372037":                    mtasts.MaxMaxAge, // beyond a time.Duration
	} {
		p, err := mtasts.ParsePolicy([]byte("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: " + value + "\n"))
		require.NoError(t, err, value)
		require.Equal(t, want, p.MaxAge, value)
	}
}

func TestParsePolicyKeepsItsLinesForReports(t *testing.T) {
	t.Parallel()
	p, err := mtasts.ParsePolicy([]byte("version:STSv1\r\nmode: none \r\nmax_age:\t1\nx: ✉ y\nmode: testing\n\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"version:STSv1", "mode: none", "max_age:\t1", "x: ✉ y", "mode: testing"}, p.Raw)
}

func TestMatches(t *testing.T) {
	t.Parallel()
	p := mtasts.Policy{MX: []string{"mail.example.com", "*.example.net", "*.b.example.org"}}
	for _, c := range []struct {
		name, host string
		match      bool
	}{
		{"the very name", "mail.example.com", true},
		{"in another case", "MAIL.Example.Com", true},
		{"with the final dot", "mail.example.com.", true},
		{"a subdomain of a name", "a.mail.example.com", false},
		{"the parent of a name", "example.com", false},
		{"a name that ends in it", "xmail.example.com", false},
		{"a wildcard stands for one label", "mx.example.net", true},
		{"a wildcard stands for one label in another case", "MX.EXAMPLE.NET", true},
		{"a wildcard stands for one label and not for two", "a.mx.example.net", false},
		{"a wildcard stands for one label and not for none", "example.net", false},
		{"a label that only ends in the domain", "mxexample.net", false},
		{"an empty label", ".example.net", false},
		{"the pattern itself", "*.example.net", false},
		{"one below a deeper domain", "a.b.example.org", true},
		{"one label in place of two", "b.example.org", false},
		{"nothing", "", false},
		{"the null MX", ".", false},
		{"not a host name", "a b.example.net", false},
		{"an escape of a zone file", `a\.b.example.net`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.match, p.Matches(c.host))
		})
	}
	require.False(t, mtasts.Policy{}.Matches("mail.example.com"), "a policy without mx matches nothing")
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(lines("version: STSv1", "mode: enforce", "mx: mail.example.com", "mx: *.example.net", "max_age: 604800", "x: y")), "mx.example.net")
	f.Add([]byte("version: STSv1\nmode: none\nmax_age: 0"), "example.com")
	f.Add([]byte("max_age: 1\nmx: A\nmode: testing \nversion:STSv1\n\n"), "a")
	f.Fuzz(func(t *testing.T, body []byte, host string) {
		p, err := mtasts.ParsePolicy(body)
		if err != nil {
			require.ErrorContains(t, err, "mtasts: malformed policy: ")
			require.Equal(t, mtasts.Policy{}, p)
			return
		}
		require.NotEmpty(t, p.Mode)
		require.True(t, p.MaxAge >= 0 && p.MaxAge <= mtasts.MaxMaxAge)
		require.True(t, len(p.MX) > 0 || p.Mode == mtasts.None)
		for _, pattern := range p.MX {
			require.Equal(t, strings.ToLower(pattern), pattern)
			require.NotContains(t, strings.TrimPrefix(pattern, "*."), "*")
			require.NotContains(t, pattern, " ")
			require.True(t, p.Matches(strings.Replace(pattern, "*", "x", 1)) || len(pattern) > 253)
		}
		for _, line := range p.Raw {
			require.NotContains(t, line, "\n")
			require.NotContains(t, line, "\r")
			require.NotContains(t, line, "\x00")
		}
		if p.Matches(host) {
			_, parent, _ := strings.Cut(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
			require.True(t, slices.Contains(p.MX, strings.ToLower(strings.TrimSuffix(host, "."))) || slices.Contains(p.MX, "*."+parent))
		}
		// Only the lines are stored, so parsing them must give the same policy.
		again, err := mtasts.ParsePolicy([]byte(strings.Join(p.Raw, "\n")))
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
