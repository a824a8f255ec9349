package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/policy"
)

// parse reads an overrides file, and returns its mistakes as "line: what is wrong".
func parse(content string) (policy.Overrides, []string) {
	var mistakes []string
	o := policy.ParseOverrides([]byte(content), func(line int, what string) {
		mistakes = append(mistakes, fmt.Sprintf("%d: %s", line, what))
	})
	return o, mistakes
}

func TestOverridesMostSpecificLineWins(t *testing.T) {
	t.Parallel()
	o, mistakes := parse(`
# comment
example.com      ignore
.example.com     no-port26   # all subdomains
a.example.com	secure match=mx.a.example.com servername=hostname
.b.example.com   may
MÜNCHEN.example. ignore
.test            encrypt ciphers=high protocols=>=TLSv1.2
`)
	require.Empty(t, mistakes)
	require.Len(t, o, 6)
	for name, want := range map[string]policy.Override{
		"example.com":            {Ignore: true, Pattern: "example.com"},
		"x.example.com":          {Pattern: ".example.com"},
		"b.example.com":          {Pattern: ".example.com"},
		"a.example.com":          {Pattern: "a.example.com", Policy: "secure match=mx.a.example.com servername=hostname"},
		"x.a.example.com":        {Pattern: ".example.com"},
		"x.b.example.com":        {Pattern: ".b.example.com", Policy: "may"},
		"y.x.b.example.com":      {Pattern: ".b.example.com", Policy: "may"},
		"xn--mnchen-3ya.example": {Ignore: true, Pattern: "xn--mnchen-3ya.example"},
		"test":                   {},
		"a.test":                 {Pattern: ".test", Policy: "encrypt ciphers=high protocols=>=TLSv1.2"},
		"anexample.com":          {},
		"com":                    {},
	} {
		require.Equal(t, want, o.For(name), name)
	}
	require.Zero(t, policy.Overrides(nil).For("example.com"))
}

func TestOverridesMistakesNameTheLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"example.com":                                                  "2: no action for example.com",
		"example.com ignored":                                          `2: unknown action "ignored": did you mean ignore?`,
		"example.com IGNORE":                                           `2: unknown action "IGNORE": did you mean ignore?`,
		"exa..mple ignore":                                             `2: "exa..mple" is not a domain`,
		"* ignore":                                                     `2: "*" is not a domain`,
		"user@example.com ignore":                                      "is not a domain",
		"a.example ignore\nA.example. ignore":                          "3: a second line for a.example",
		"example.com secure mtch=x":                                    `unknown policy attribute "mtch": did you mean match?`,
		"example.com secure match=":                                    "match has no value",
		"example.com secure match":                                     "match has no value",
		"example.com may match=x":                                      "match= is valid only with the levels",
		"example.com fingerprint":                                      "needs match=",
		"example.com secure match=é":                                   "outside printable ASCII",
		"bank.com secure match=*.bank.com":                             `2: match=*.bank.com: "*.bank.com" is not a host name`,
		"bank.com secure match=a.bank.com:*.b.bank.com":                `"*.b.bank.com" is not a host name`,
		"bank.com verify match=*.bank.com":                             `"*.bank.com" is not a host name`,
		"bank.com secure match=*":                                      `"*" is not a host name`,
		"bank.com secure match=mx*.bank.com":                           "is not a host name",
		"bank.com secure match=mx.bank.com.":                           `"mx.bank.com." is not a host name`,
		"bank.com secure match=.bank.com.":                             `".bank.com." is not a host name`,
		"bank.com secure match=[192.0.2.1]":                            "is not a host name",
		"bank.com secure match=a.bank.com,b.bank.com":                  "is not a host name",
		"bank.com secure match=a.bank.com::b.bank.com":                 "is not a host name",
		"bank.com secure servername=*.bank.com":                        "servername=*.bank.com: write hostname or the name of a host",
		"bank.com encrypt ciphers=strong":                              "ciphers=strong: use high, medium",
		"bank.com encrypt connection_reuse=true":                       "connection_reuse=true: use yes, no",
		"bank.com secure policy_type=sts":                              "unknown policy attribute",
		"bank.com ignore x":                                            `2: "ignore x": write nothing after ignore`,
		"bank.com no-port26 ignore":                                    "write nothing after no-port26",
		"bank.com secure protocols=bogus":                              "protocols=bogus: write TLS versions",
		"bank.com secure protocols=>=TLSv1.4":                          "protocols=>=TLSv1.4: write TLS versions",
		"bank.com secure protocols=771":                                "protocols=771: write TLS versions",
		"bank.com secure protocols=!SSLv2,!SSLv3":                      "write a colon in place of each comma",
		"bank.com secure exclude=aNULL,MD5":                            "exclude=aNULL,MD5: write a colon",
		"bank.com secure ciphers=high ciphers=high":                    "the policy attribute ciphers appears twice",
		"bank.com may exclude=A connection_reuse=no exclude=B":         "the policy attribute exclude appears twice",
		"bank.com secure servername=hostname servername=a.bank.com":    "servername appears twice",
		"bank.com secure protocols=>=TLSv1.2 match=a protocols=!SSLv2": "protocols appears twice",
		"bank.com encrypt tafile=/x":                                   "tafile= is valid only with the levels verify and secure, not with encrypt",
		"bank.com dane tafile=/x":                                      "tafile= is valid only with the levels",
		"bank.com fingerprint match=mx.bank.com":                       "match=mx.bank.com: write fingerprints in hexadecimal",
		"bank.com secrue match=a.bank.com":                             "did you mean secure?",
		"bank.com xyzzy":                                               "write ignore, no-port26 or a policy",
		"a.example ignoer\nb.example ignore\nc.example":                "4: no action for c.example",
		"example.com " + strings.Repeat("x", 70000):                    "2: ",
	} {
		_, mistakes := parse("# first\n" + line + "\n")
		require.Contains(t, strings.Join(mistakes, "\n"), want)
	}
}

func TestOverridesTakeWhatPostfixTakes(t *testing.T) {
	t.Parallel()
	for _, policyText := range []string{
		"secure match=.bank.com", "secure match=hostname", "verify match=nexthop:dot-nexthop", "secure match=A.bank.com:.b.bank.com servername=mx.bank.com",
		"fingerprint match=3D:95:34:51", "secure match=a.bank.com match=b.bank.com", "encrypt ciphers=high connection_reuse=yes", "dane-only",
		"secure protocols=!SSLv2:!SSLv3:!tlsv1", "secure protocols=>=TLSv1.2:<=0x304", "may protocols=TLSv1.3", "secure tafile=/a tafile=/b match=a.bank.com",
		"encrypt connection_reuse=yes connection_reuse=no exclude=aNULL:MD5", "fingerprint match=3D:95|AB:cd match=EF01",
	} {
		_, mistakes := parse("bank.com " + policyText + "\n")
		require.Empty(t, mistakes, policyText)
	}
}

func TestOverridesLineThatIsTooLong(t *testing.T) {
	t.Parallel()
	o, mistakes := parse("a.example ignore\n\nb.example secure match=" + strings.Repeat("a.", 1<<15) + "example\nc.example x\n")
	require.Equal(t, []string{"3: the line has more than 64 KiB: write a shorter one; the lines after it were not read"}, mistakes)
	require.Len(t, o, 1)
	_, mistakes = parse("# " + strings.Repeat("a", 1<<16-3) + "\na.example ignore\n")
	require.Empty(t, mistakes)
}

func FuzzParseOverrides(f *testing.F) {
	f.Add("example.com ignore\n.example.com secure match=a servername=hostname # x")
	f.Fuzz(func(t *testing.T, text string) {
		o, mistakes := parse(text)
		if len(mistakes) > 0 {
			return
		}
		for name := range strings.FieldsSeq(text) {
			r := o.For(name)
			require.Equal(t, !r.Ignore && r.Policy != "", r.Policy != "", "a literal policy is never empty")
			for i := range len(r.Policy) {
				require.True(t, r.Policy[i] >= ' ' && r.Policy[i] <= '~', "printable ASCII only")
			}
		}
	})
}
