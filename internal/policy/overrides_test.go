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
	require.Equal(t, 6, o.Len())
	for name, want := range map[string]policy.Override{
		"example.com":            {Action: policy.ActionIgnore, Pattern: "example.com"},
		"x.example.com":          {Action: policy.ActionNoPort26, Pattern: ".example.com"},
		"b.example.com":          {Action: policy.ActionNoPort26, Pattern: ".example.com"},
		"a.example.com":          {Action: policy.ActionLiteral, Pattern: "a.example.com", Policy: "secure match=mx.a.example.com servername=hostname"},
		"x.a.example.com":        {Action: policy.ActionNoPort26, Pattern: ".example.com"},
		"x.b.example.com":        {Action: policy.ActionLiteral, Pattern: ".b.example.com", Policy: "may"},
		"y.x.b.example.com":      {Action: policy.ActionLiteral, Pattern: ".b.example.com", Policy: "may"},
		"xn--mnchen-3ya.example": {Action: policy.ActionIgnore, Pattern: "xn--mnchen-3ya.example"},
		"test":                   {},
		"a.test":                 {Action: policy.ActionLiteral, Pattern: ".test", Policy: "encrypt ciphers=high protocols=>=TLSv1.2"},
		"anexample.com":          {},
		"com":                    {},
	} {
		require.Equal(t, want, o.For(name), name)
	}
	var none *policy.Overrides
	require.Equal(t, policy.Override{}, none.For("example.com"))
	require.Zero(t, none.Len())
}

func TestOverridesMistakesNameTheLine(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"example.com":                               "/etc/o:2: no action for example.com",
		"example.com ignored":                       `/etc/o:2: "ignored" is neither ignore nor no-port26 nor a TLS level`,
		"example.com IGNORE":                        `/etc/o:2: "IGNORE" is neither`,
		"exa..mple ignore":                          `/etc/o:2: "exa..mple" is not a domain`,
		"* ignore":                                  `/etc/o:2: "*" is not a domain`,
		"user@example.com ignore":                   "is not a domain",
		"a.example ignore\nA.example. ignore":       "/etc/o:3: a second line for a.example",
		"example.com secure mtch=x":                 `"mtch" is not a policy attribute`,
		"example.com secure match=":                 "match has no value",
		"example.com secure match":                  "match has no value",
		"example.com may match=x":                   "match= goes with the levels",
		"example.com fingerprint":                   "needs match=",
		"example.com secure match=é":                "outside printable ASCII",
		"example.com " + strings.Repeat("x", 70000): "/etc/o:2: ",
	} {
		_, err := policy.ParseOverrides("/etc/o", strings.NewReader("# first\n"+line+"\n"))
		require.ErrorContains(t, err, want)
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
			require.Equal(t, r.Action == policy.ActionLiteral, r.Policy != "", "a literal policy is never empty")
			for i := range len(r.Policy) {
				require.True(t, r.Policy[i] >= ' ' && r.Policy[i] <= '~', "printable ASCII only")
			}
		}
	})
}
