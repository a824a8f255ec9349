package gather_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
)

// combination is a line of combinations.golden.
type combination struct {
	dane, mx, sts, prefix string
	port                  uint16
	reply                 string
}

// combinations reads the table that the tests of policy write.
func combinations(t *testing.T) []combination {
	t.Helper()
	table, err := os.ReadFile("../policy/testdata/combinations.golden")
	require.NoError(t, err)
	var all []combination
	for line := range strings.Lines(string(table)) {
		var c combination
		var source string
		_, err := fmt.Sscanf(line, "dane=%s mx=%s sts=%s prefix=%s port=%d %s", &c.dane, &c.mx, &c.sts, &c.prefix, &c.port, &source)
		require.NoError(t, err, line)
		_, rest, _ := strings.Cut(line, fmt.Sprintf("port=%d", c.port))
		_, c.reply, _ = strings.Cut(strings.TrimLeft(rest, " "), source)
		c.reply = strings.TrimSpace(c.reply)
		all = append(all, c)
	}
	return all
}

func (c combination) hosts() []string {
	return map[string][]string{
		"all":   {"smtps-a.example.com", "smtps-b.example.com"},
		"mixed": {"mx-a.example.com", "smtps-b.example.com"},
		"none":  {"mx-a.example.com", "mx-b.example.com"},
	}[c.prefix]
}

// zone returns every answer that a resolver could give about this combination.
func (c combination) zone() map[string]answer {
	hosts := c.hosts()
	status := map[string]dns.Status{"secure": signed, "insecure": unsigned}[c.mx]
	zone := map[string]answer{
		"MX example.com":           mxs(status, dns.MX{Preference: 10, Host: hosts[0]}, dns.MX{Preference: 20, Host: hosts[1]}),
		"TXT _mta-sts.example.com": denial(unsigned),
	}
	if c.mx == "bogus" {
		zone["MX example.com"] = answer{err: &dns.Error{Reason: "SERVFAIL (DNSSEC Bogus)"}}
	}
	unusable := tlsa(signed)
	unusable.rrset.Records = []dns.TLSA{{Usage: 1, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}
	for i, state := range strings.Split(c.dane, "+") {
		zone["A "+hosts[i]], zone["AAAA "+hosts[i]] = addrs("192.0.2.1"), denial(signed)
		for _, port := range []string{"25", "26"} { // both, so that a query for the wrong port is seen as such
			zone["TLSA _"+port+"._tcp."+hosts[i]] = map[string]answer{
				"usable": tlsa(signed), "unusable": unusable, "absent": denial(signed), "failed": {err: &dns.Error{Reason: "SERVFAIL"}},
			}[state]
		}
	}
	return zone
}

func (c combination) policy() mtasts.Result {
	stale := stsPolicy(mtasts.Enforce, "*.example.com")
	stale.Stale, stale.Why = true, "HTTP status 500"
	return map[string]mtasts.Result{
		"enforce": stsPolicy(mtasts.Enforce, "*.example.com"),
		"testing": stsPolicy(mtasts.Testing, "*.example.com"),
		"none":    {Domain: "example.com", State: mtasts.Absent},
		"failing": {Domain: "example.com", State: mtasts.Failed, Failure: mtasts.FetchError, Why: "HTTP status 500"},
		"stale":   stale,
		"unknown": {Domain: "example.com", Err: errors.New("busy")},
	}[c.sts]
}

// local fails the test when a fact about this host is asked for, which no combination needs.
type local struct{ t *testing.T }

func (l local) Own(context.Context, string, dns.Effort) (own bool, why string, err error) {
	l.t.Error("Own was called")
	return false, "", nil
}

func (l local) OwnHost(string) bool {
	l.t.Error("OwnHost was called")
	return false
}

func (l local) OwnAddr(netip.Addr) bool {
	l.t.Error("OwnAddr was called")
	return false
}

func (l local) RelayHost(context.Context, string, dns.Effort) (bool, error) {
	l.t.Error("RelayHost was called")
	return false, nil
}

// TestEveryCombinationFetchesWhatItNeeds decides every line of the table of combinations from no facts. The questions
// are those of the needs that Decide has returned, required and expected, and no others; a test of policy shows that
// these needs are the facts that the decision uses. The answer is that of the table.
func TestEveryCombinationFetchesWhatItNeeds(t *testing.T) {
	t.Parallel()
	all := combinations(t)
	require.Len(t, all, 1080)
	for _, c := range all {
		synctest.Test(t, func(t *testing.T) {
			want, policies := map[string]bool{}, 0
			needed := func(f *policy.Facts, n policy.Need) {
				require.False(t, n.Required.Relay || n.Required.Receiver || n.Required.Probes || n.Required.Validates || n.Required.DANE26 != 0, "%+v", c)
				if n.Required.MX {
					want["MX example.com"] = true
				}
				if n.Required.STS {
					policies++
					want["TXT _mta-sts.example.com"] = true // the store asks for it
				}
				for i, h := range f.Hosts {
					if n.Required.DANE.Has(i) {
						want["A "+h.Name] = true
						want[fmt.Sprintf("TLSA _%d._tcp.%s", c.port, h.Name)] = true
					}
					if n.Required.DANE.Has(i) && !f.LikelySigned(i) || n.Required.Addresses.Has(i) {
						want["A "+h.Name], want["AAAA "+h.Name] = true, true
					}
				}
				for _, q := range n.Expected {
					want[q.Type.String()+" "+q.Name] = true
				}
			}
			decider := func(f policy.Facts, o policy.Options) policy.Decision {
				d := policy.Decide(f, o)
				needed(&f, d.Need)
				return d
			}
			resolver, fetched := &table{t: t, answers: c.zone()}, 0
			e := &gather.Engine{
				Resolver: starting{resolver}, Site: local{t},
				STS: stsFunc(func(context.Context, string) mtasts.Result {
					fetched++
					return c.policy()
				}),
				Verdict: func(string) probe.Verdict {
					t.Error("Verdict was called")
					return probe.Verdict{}
				},
				Validates: func(context.Context, dns.Effort) (bool, error) {
					t.Error("Validates was called")
					return true, nil
				},
			}
			f, d, err := decide(t.Context(), e, decider, policy.Nexthop{Name: "example.com", Port: c.port}, withDANEAndSTS(), dns.Effort{})
			require.NoError(t, err)
			synctest.Wait() // for the questions that were only expected
			got := map[string]bool{}
			for _, question := range resolver.questions() {
				got[question] = true
			}
			require.Equal(t, want, got, "%+v", c)
			require.Equal(t, policies, fetched, "%+v: MTA-STS policies", c)
			for i := range f.Hosts {
				require.Equal(t, f.Known.DANE.Has(i), f.Hosts[i].DANE.State != dane.Unknown, "%+v", c)
			}
			reply := d.Reply(withDANEAndSTS(), false).String()
			if temp := "TEMP"; strings.HasPrefix(c.reply, temp) {
				reply, c.reply = reply[:min(len(reply), len(temp))], temp // the table has made-up causes
			}
			require.Equal(t, c.reply, strings.TrimSpace(reply), "%+v", c)
		})
	}
}
