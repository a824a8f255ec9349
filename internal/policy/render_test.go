package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Nothing is enforced in report mode, or while policyd is off.
func TestReplyOfAMode(t *testing.T) {
	t.Parallel()
	for _, decided := range []socketmap.Reply{socketmap.OK("dane-only"), socketmap.NotFound(), socketmap.Temp("no answer in time")} {
		require.Equal(t, decided, policy.ModeEnforce.Reply(decided))
		require.Equal(t, socketmap.NotFound(), policy.ModeReport.Reply(decided))
		require.Equal(t, socketmap.NotFound(), policy.ModeOff.Reply(decided))
	}
}

var domain = policy.Nexthop{Name: "example.com", Port: 25}

// FuzzRender renders the answers for MX hosts of any name.
func FuzzRender(f *testing.F) {
	f.Add("starttls-a.example.com", "smtps-b.example.com", uint16(10))
	f.Add("smtps-a\\032b.example.com", "smtps-b.example.com, [evil", uint16(20))
	f.Add("smtps-"+strings.Repeat("x", 300), "smtps-é.example", uint16(0))
	f.Fuzz(func(t *testing.T, first, second string, preference uint16) {
		facts := *policy.NewFacts(domain)
		facts.SetMX(&dns.RRset{Status: signed, Records: []dns.MX{{Host: first}, {Host: second, Preference: preference}}}, nil)
		facts.Known.Add(policy.FactSet{Receiver: true, Addresses: 3})
		facts.Receiver.Known = true
		tls, route := answered(facts, defaults()), routed(facts, defaults())
		for _, reply := range []string{tls, route} {
			for i := range len(reply) {
				require.True(t, reply[i] >= ' ' && reply[i] <= '~', "printable ASCII only: %q", reply)
			}
		}
		if match, ok := strings.CutPrefix(tls, "OK secure match="); ok {
			match, ok = strings.CutSuffix(match, " servername=hostname")
			require.True(t, ok)
			for name := range strings.SplitSeq(match, ":") {
				require.NotEqual(t, prefix.None, prefix.Of(name), "%q", tls)
				require.True(t, prefix.ValidHost(name), "%q", tls)
			}
		} else {
			require.Equal(t, "NOTFOUND ", tls, "nothing but a policy or none")
		}
		if to, ok := strings.CutPrefix(route, "OK smtps26:"); ok {
			for key := range strings.SplitSeq(to, ", ") {
				_, ok := policy.ParseNexthop(key, 26)
				require.True(t, ok && strings.HasSuffix(key, ":26"), "%q", route)
			}
		} else {
			require.Equal(t, "NOTFOUND ", route)
		}
	})
}
