package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/policy"
)

func TestOverridesMostSpecificLineWins(t *testing.T) {
	t.Parallel()
	o, err := policy.ParseOverrides("overrides", strings.NewReader(`
# comment
example.com      ignore
.example.com     no-port26   # all subdomains
a.example.com	secure match=mx.a.example.com servername=hostname
.b.example.com   may
MÜNCHEN.example. ignore
.test            encrypt ciphers=high protocols=>=TLSv1.2
`))
	require.NoError(t, err)
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
		"example.com":                                   "/etc/o:2: no action for example.com",
		"example.com ignored":                           `/etc/o:2: unknown action "ignored": did you mean ignore?`,
		"example.com IGNORE":                            `/etc/o:2: unknown action "IGNORE": did you mean ignore?`,
		"exa..mple ignore":                              `/etc/o:2: "exa..mple" is not a domain`,
		"* ignore":                                      `/etc/o:2: "*" is not a domain`,
		"user@example.com ignore":                       "is not a domain",
		"a.example ignore\nA.example. ignore":           "/etc/o:3: a second line for a.example",
		"example.com secure mtch=x":                     `unknown policy attribute "mtch": did you mean match?`,
		"example.com secure match=":                     "match has no value",
		"example.com secure match":                      "match has no value",
		"example.com may match=x":                       "match= goes with the levels",
		"example.com fingerprint":                       "needs match=",
		"example.com secure match=é":                    "outside printable ASCII",
		"bank.com secure match=*.bank.com":              "/etc/o:2: match=*.bank.com: Postfix knows no wildcards here: write match=.bank.com",
		"bank.com secure match=a.bank.com:*.b.bank.com": "write match=.b.bank.com",
		"bank.com verify match=*.bank.com":              "write match=.bank.com",
		"bank.com secure match=*":                       `"*" is not a host name`,
		"bank.com secure match=mx*.bank.com":            "is not a host name",
		"bank.com secure match=mx.bank.com.":            "with a final dot Postfix never matches: write match=mx.bank.com",
		"bank.com secure match=.bank.com.":              "with a final dot Postfix never matches: write match=.bank.com",
		"bank.com secure match=[192.0.2.1]":             "is not a host name",
		"bank.com secure match=a.bank.com,b.bank.com":   "is not a host name",
		"bank.com secure match=a.bank.com::b.bank.com":  "is not a host name",
		"bank.com secure servername=*.bank.com":         "servername=*.bank.com: write hostname or the name of a host",
		"bank.com encrypt ciphers=strong":               "ciphers=strong: use high, medium",
		"bank.com encrypt connection_reuse=true":        "connection_reuse=true: use yes, no",
		"bank.com secure policy_type=sts":               "unknown policy attribute",
		"bank.com secrue match=a.bank.com":              "did you mean secure?",
		"bank.com xyzzy":                                "write ignore, no-port26 or a policy",
		"a.example ignoer\nb.example ignore\nc.example": "/etc/o:4: no action for c.example",
		"example.com " + strings.Repeat("x", 70000):     "/etc/o:2: ",
	} {
		_, err := policy.ParseOverrides("/etc/o", strings.NewReader("# first\n"+line+"\n"))
		require.ErrorContains(t, err, want)
	}
}

func TestOverridesTakeWhatPostfixTakes(t *testing.T) {
	t.Parallel()
	for _, policyText := range []string{
		"secure match=.bank.com", "secure match=hostname", "verify match=nexthop:dot-nexthop", "secure match=A.bank.com:.b.bank.com servername=mx.bank.com",
		"fingerprint match=3D:95:34:51", "secure match=a.bank.com match=b.bank.com", "encrypt ciphers=high connection_reuse=yes", "dane-only",
	} {
		_, err := policy.ParseOverrides("o", strings.NewReader("bank.com "+policyText+"\n"))
		require.NoError(t, err, policyText)
	}
}

func FuzzParseOverrides(f *testing.F) {
	f.Add("example.com ignore\n.example.com secure match=a servername=hostname # x")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := policy.ParseOverrides("o", strings.NewReader(text))
		if err != nil {
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
