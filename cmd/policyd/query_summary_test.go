package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/socketmap"
)

func TestSummaryOfADomainWithoutHosts(t *testing.T) {
	t.Parallel()
	none := socketmap.NotFound()
	nxdomain := explain.Result{
		Policy:    explain.Policy{Nexthop: "example.com", DNSSEC: "secure", Source: "none", TLSPolicy: none, WouldTLSPolicy: none},
		Transport: none,
	}
	require.Equal(t, "Mail to example.com is returned to the sender: the domain does not exist, or accepts no mail.", summary(nxdomain))
	for name, change := range map[string]func(x *explain.Result){
		"the MX lookup was not made":       func(x *explain.Result) { x.DNSSEC = "indeterminate" },
		"the answer is bogus":              func(x *explain.Result) { x.DNSSEC = "bogus" },
		"an implicit MX host":              func(x *explain.Result) { x.MX = []explain.MXHost{{Host: "example.com"}} },
		"one host instead of the MX hosts": func(x *explain.Result) { x.Nexthop = "[example.com]" },
		"an override":                      func(x *explain.Result) { x.Source = "override" },
		"an error": func(x *explain.Result) {
			x.TLSPolicy.Status, x.WouldTLSPolicy.Status = socketmap.StatusTemp, socketmap.StatusTemp
		},
	} {
		x := nxdomain
		change(&x)
		require.NotContains(t, summary(x), "returned", name)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	ok := socketmap.OK
	none := socketmap.NotFound()
	for _, c := range []struct {
		tls, transport socketmap.Reply
		source, want   string
	}{
		{none, none, "none", "is sent as without policyd: over TLS where the server offers it, without verification."},
		{ok("secure match=a.example servername=hostname"), none, "prefix", "is sent only over verified TLS to a.example."},
		{ok("secure match=a.example:b.example servername=hostname"), none, "prefix", "is sent only over verified TLS to a.example or b.example."},
		{ok("secure match=a.x:b.x:c.x:d.x servername=hostname"), none, "prefix", "is sent only over verified TLS to a.x or b.x or c.x or d.x."},
		{ok("secure match=a.x:b.x:c.x:d.x:e.x servername=hostname"), none, "prefix", "is sent only over verified TLS to a.x or b.x or c.x or 2 other hosts."},
		{ok("secure match=smtps-a.example servername=hostname"), ok("smtps26:example.com:26"), "prefix", "is sent only over verified TLS to smtps-a.example, with implicit TLS on port 26."},
		{ok("secure match=smtps-a.example servername=hostname"), ok("smtps26:smtps-a.example:2626"), "prefix", "is sent only over verified TLS to smtps-a.example, with implicit TLS on port 2626."},
		// The policy for the hosts of the route is another lookup, and mail goes to no other host.
		{ok("secure match=smtps-a.x:starttls-b.x servername=hostname"), ok("smtps26:[smtps-a.x]:26"), "prefix", "is sent only over verified implicit TLS to [smtps-a.x]:26."},
		{ok("secure match=a.x:b.x:c.x servername=hostname"), ok("smtps26:[a.x]:26, [b.x]:26"), "prefix", "is sent only over verified implicit TLS to [a.x]:26, [b.x]:26."},
		{ok("dane-only"), ok("smtps26:[smtps-a.x]:26"), "dane", "is sent only over verified implicit TLS to [smtps-a.x]:26."},
		{socketmap.Temp("the DANE lookup for b.x failed"), ok("smtps26:[smtps-a.x]:26"), "dane", "is sent only over verified implicit TLS to [smtps-a.x]:26."},
		{ok("dane-only"), ok("smtps26:example.com:26"), "dane", "is sent only over verified TLS, with implicit TLS on port 26."},
		{ok("dane-only"), none, "dane", "is sent only over TLS that DANE verifies."},
		{ok("dane"), none, "dane", "is sent over TLS that DANE verifies to hosts with usable TLSA records, over TLS without verification to hosts with only unusable ones, and to other hosts as without policyd."},
		{ok("may"), none, "override", "is sent under the policy of the overrides file: may."},
		{socketmap.Temp("MX lookup failed"), none, "none", "waits: MX lookup failed."},
		{socketmap.Temp("bad \x1b[31m"), none, "none", "waits: bad ?[31m."},
	} {
		x := explain.Result{
			Policy:    explain.Policy{Nexthop: "example.com", TLSPolicy: c.tls, WouldTLSPolicy: c.tls, Source: c.source},
			Transport: c.transport,
		}
		require.Equal(t, "Mail to example.com "+c.want, summary(x))
		x.TLSPolicy, x.Transport, x.WouldTransport = none, none, c.transport
		if c.tls != none {
			require.Equal(t, `Mail to example.com is sent as without policyd, because mode = "report". With mode = "enforce", mail to it `+c.want, summary(x))
		}
	}
}
