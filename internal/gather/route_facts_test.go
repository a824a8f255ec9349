package gather_test

import (
	"errors"
	"fmt"
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

// TestReceiver determines whether this site receives a domain, because a route would then be a mail loop.
func TestReceiver(t *testing.T) {
	t.Parallel()
	const s, backup = "smtps-s.example.com", "mx.example.net"
	zone := func() map[string]answer {
		return map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: s}, dns.MX{Preference: 20, Host: backup}),
			"A " + s:         addrs("192.0.2.1"), "AAAA " + s: addrs("2001:db8::1"),
			"A " + backup: addrs("192.0.2.2"), "AAAA " + backup: addrs(),
		}
	}
	mxOnly := func(m map[string]answer) {
		for k := range m {
			if k != "MX example.com" {
				delete(m, k)
			}
		}
	}
	broken := &dns.Error{Reason: "SERVFAIL"}
	untrusted := dns.Effort{Untrusted: true}
	for _, c := range []struct {
		name   string
		site   gather.Site
		change func(map[string]answer)
		want   string
	}{
		{"another site", site{}, nil, "elsewhere"},
		{"one of our domains", site{domains: []string{"example.com"}}, mxOnly, "here"},
		{"an MX host is this host by name", site{hosts: []string{backup}}, mxOnly, "here"},
		{"an MX host has an address of this host", site{addrs: []string{"192.0.2.2"}}, nil, "here"},
		{"an IPv6 address of this host", site{addrs: []string{"2001:db8::1"}}, nil, "here"},
		{"our lists cannot be read: in doubt", site{err: errors.New("postconf failed")}, mxOnly, "unknown"},
		{"an address lookup fails: in doubt", site{}, func(m map[string]answer) { m["AAAA "+backup] = answer{err: broken} }, "unknown"},
		{"an address lookup fails, another address is ours", site{addrs: []string{"192.0.2.1"}}, func(m map[string]answer) { m["AAAA "+backup] = answer{err: broken} }, "here"},
		{"no smtps- host first: nothing more is looked up", site{}, func(m map[string]answer) {
			mxOnly(m)
			m["MX example.com"] = mxs(signed, dns.MX{Preference: 10, Host: backup})
		}, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers := zone()
			if c.change != nil {
				c.change(answers)
			}
			d := &table{t: t, answers: answers}
			e := gather.Engine{Resolver: starting{d}, Site: c.site, Hosts: gather.NewHosts()}
			f, _, err := decide(t.Context(), &e, policy.Route, domain, defaults(), untrusted)
			require.NoError(t, err)
			got := "unknown"
			switch {
			case f.Receiver.Here:
				got = "here"
			case f.Receiver.Known:
				got = "elsewhere"
			}
			require.Equal(t, c.want, got, f.Receiver.Why)
			require.Equal(t, map[dns.Effort]bool{untrusted: true}, d.usedEfforts())
		})
	}
	t.Run("not cached", func(t *testing.T) {
		t.Parallel()
		answers := zone()
		answers["A "+backup] = answer{err: dns.ErrNotCached}
		e := gather.Engine{Resolver: starting{&table{t: t, answers: answers}}, Site: site{}}
		_, d, err := decide(t.Context(), &e, policy.Route, domain, defaults(), dns.Effort{CacheOnly: true, Untrusted: true})
		require.ErrorIs(t, err, dns.ErrNotCached)
		require.Equal(t, policy.None, d.Verdict)
	})
}

// TestTheAddressOfOneFamilyShowsTheReceiver: the question about the other family is not answered.
func TestTheAddressOfOneFamilyShowsTheReceiver(t *testing.T) {
	t.Parallel()
	const s = "smtps-s.example.com"
	families := map[string]string{"A " + s: "192.0.2.1", "AAAA " + s: "2001:db8::1"}
	for silent := range families {
		synctest.Test(t, func(t *testing.T) {
			answers, own := map[string]answer{"MX example.com": mxs(signed, dns.MX{Host: s})}, site{}
			for question, addr := range families {
				if question != silent {
					answers[question], own.addrs = addrs(addr), []string{addr}
				}
			}
			d := &table{t: t, answers: answers, silent: []string{silent}}
			e := gather.Engine{Resolver: starting{d}, Site: own, Hosts: gather.NewHosts()}
			f, _, err := decide(t.Context(), &e, policy.Route, domain, defaults(), dns.Effort{Untrusted: true})
			require.NoError(t, err)
			require.True(t, f.Receiver.Here, f.Receiver.Why)
		})
	}
}

// verdicts is a table of verdicts; it notes what it is asked for.
type verdicts struct {
	found map[string]probe.State
	asked []string
}

func (v *verdicts) Verdict(host string) probe.Verdict {
	v.asked = append(v.asked, host)
	return probe.Verdict{State: v.found[host]}
}

func TestARouteByProbe(t *testing.T) {
	t.Parallel()
	const s, u = "smtps-s.example.com", "smtps-u.example.com"
	untrusted := dns.Effort{Untrusted: true}
	o := withDANEAndSTS()
	o.Port26Mode = policy.PortProbe
	answers := map[string]answer{
		"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: s}, dns.MX{Preference: 20, Host: u}, dns.MX{Preference: 30, Host: "starttls-x.example.com"}),
	}
	d := &table{t: t, answers: answers}
	v := &verdicts{found: map[string]probe.State{}}
	e := gather.Engine{Resolver: starting{d}, Verdict: v.Verdict, Site: site{}, STS: notAsked(t)}
	_, got, err := decide(t.Context(), &e, policy.Route, domain, o, untrusted)
	require.NoError(t, err)
	require.Equal(t, policy.None, got.Verdict, "closed or unknown: nothing more is looked up")
	require.Equal(t, []string{s, u}, v.asked, "only the smtps- hosts")

	v.found[s] = probe.Open
	for _, h := range []string{s, u, "starttls-x.example.com"} {
		answers["A "+h], answers["AAAA "+h] = insecureAddrs(), denial(unsigned)
	}
	answers["TXT _mta-sts.example.com"] = denial(signed)
	e.STS = noPolicy(t)
	f, got, err := decide(t.Context(), &e, policy.Route, domain, o, untrusted)
	require.NoError(t, err)
	r := got.Reply(o, false)
	require.Equal(t, "OK smtps26:["+s+"]:26", r.String())
	require.Equal(t, dane.Absent, f.Hosts[0].DANE26.State)
	require.Equal(t, dane.Unknown, f.Hosts[1].DANE26.State, "not needed")
	require.Equal(t, map[dns.Effort]bool{untrusted: true}, d.usedEfforts())

	e.STS = says(mtasts.Result{Err: fmt.Errorf("the policy has not been fetched: %w", dns.ErrNotCached)})
	_, got, err = decide(t.Context(), &e, policy.Route, domain, o, untrusted)
	require.NoError(t, err, "no policy is fetched for a domain that a remote sender chose")
	require.Equal(t, policy.None, got.Verdict)
}
