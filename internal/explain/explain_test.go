package explain_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/socketmap"
)

// resolver is a dns.Starter made of a function.
type resolver func(context.Context, dns.Question) (*dns.RRset, error)

func (r resolver) Start(ctx context.Context, q dns.Question, _ dns.Effort) *dns.Call {
	c := &dns.Call{Question: q, Done: make(chan struct{})}
	look := func() {
		defer close(c.Done)
		c.RRset, c.Err = r(ctx, q)
	}
	if ctx.Err() != nil {
		look()
	} else {
		go look()
	}
	return c
}

// everywhere is a resolver in which every domain has one MX host, smtps-mx.<domain>.
func everywhere(_ context.Context, q dns.Question) (*dns.RRset, error) {
	r := &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: dns.Secure}
	switch q.Type {
	case dns.TypeMX:
		r.Records = []dns.MX{{Preference: 10, Host: "smtps-mx." + q.Name}}
	case dns.TypeA:
		r.Records = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	default:
	}
	return r, nil
}

// from is an engine of a sender that receives nothing.
func from(r resolver) *gather.Engine {
	return &gather.Engine{Resolver: r, Site: gather.Elsewhere{}}
}

func options() policy.Options {
	return policy.Options{Mode: policy.ModeEnforce, Port26Mode: policy.PortAlways, Port26: 26, Transport: "smtps26"}
}

func TestAPromise(t *testing.T) {
	t.Parallel()
	x := explain.Nexthop(t.Context(), from(everywhere), "example.com", options())
	secure, route := socketmap.OK("secure match=smtps-mx.example.com servername=hostname"), socketmap.OK("smtps26:example.com:26")
	require.Equal(t, explain.Result{
		Policy: explain.Policy{
			Nexthop: "example.com", DNSSEC: "secure", TLSPolicy: secure, WouldTLSPolicy: secure, Source: "prefix",
			Why: []string{"every MX host carries a prefix", "DANE: switched off, dane = false", "MTA-STS: switched off, mta_sts = false"},
		},
		Domain:          "example.com",
		MX:              []explain.MXHost{{Host: "smtps-mx.example.com", Preference: 10, Prefix: "smtps", DNSSEC: "indeterminate", DANE: "off"}},
		TLSPolicyTLSRPT: secure, Transport: route, WouldTransport: route,
		WhyTransport: []string{"every MX host is an smtps- host (port26.mode = \"always\": no probe is needed)"},
	}, x)
	require.Equal(t, 0, x.Exit())
}

// The transport map is asked for the domain, so the route does not depend on the port of the next hop.
func TestTheRouteIsThatOfTheDomain(t *testing.T) {
	t.Parallel()
	o := options()
	o.DANE = true
	usable, unusable := []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}, []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 9, Data: []byte{1}}}
	for name, records := range map[string]map[string][]dns.TLSA{
		"unusable for port 25":          {"_25": unusable},
		"unusable for port 26":          {"_26": unusable},
		"usable for port 25":            {"_25": usable},
		"usable for port 26":            {"_26": usable},
		"usable for both":               {"_25": usable, "_26": usable},
		"usable for 25, not so for 26":  {"_25": usable, "_26": unusable},
		"usable for 26, not so for 25":  {"_25": unusable, "_26": usable},
		"usable for neither, nor there": {},
	} {
		zone := from(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
			r, err := everywhere(ctx, q)
			if port, _, _ := strings.Cut(q.Name, "."); q.Type == dns.TypeTLSA && records[port] != nil {
				r.Records = records[port]
			}
			return r, err
		})
		domain := explain.Nexthop(t.Context(), zone, "example.com", o)
		port := explain.Nexthop(t.Context(), zone, "example.com:26", o)
		require.Equal(t, domain.Transport, port.Transport, name)
		require.Equal(t, domain.WhyTransport, port.WhyTransport, name)
		require.Equal(t, domain.MX[0].DANE26, port.MX[0].DANE26, name)
	}
}

func TestReportModeShowsWhatWouldBeAnswered(t *testing.T) {
	t.Parallel()
	reporting := options()
	reporting.Mode = policy.ModeReport
	x := explain.Nexthop(t.Context(), from(everywhere), "example.com", reporting)
	require.Equal(t, socketmap.StatusNotFound, x.TLSPolicy.Status)
	require.Equal(t, socketmap.StatusNotFound, x.Transport.Status)
	require.Equal(t, "secure match=smtps-mx.example.com servername=hostname", x.WouldTLSPolicy.Text)
	require.Equal(t, "smtps26:example.com:26", x.WouldTransport.Text)
	require.Equal(t, 1, x.Exit(), "no policy applies in this mode")
}

// receives is a site that receives every domain.
type receives struct{ gather.Elsewhere }

func (receives) Own(_ context.Context, domain string, _ dns.Effort) (own bool, why string, err error) {
	return true, "exclude_domains has " + domain, nil
}

func TestADomainOfThisSiteIsNamedAsOne(t *testing.T) {
	t.Parallel()
	probing, excluded := options(), from(everywhere)
	probing.Port26Mode, excluded.Site = policy.PortProbe, receives{}
	x := explain.Nexthop(t.Context(), excluded, "example.com", probing)
	require.Equal(t, []string{
		"not every MX host of the best preference is an smtps- host with port 26 open: smtps-mx.example.com is unknown",
		"this site receives the domain: exclude_domains has example.com",
	}, x.WhyTransport, "such a host is never probed")
}

func TestABogusAnswer(t *testing.T) {
	t.Parallel()
	bogus := from(func(_ context.Context, q dns.Question) (*dns.RRset, error) {
		return nil, &dns.Error{Question: q, Reason: "SERVFAIL (DNSSEC Bogus)", Bogus: true}
	})
	x := explain.Nexthop(t.Context(), bogus, "example.com", options())
	require.Equal(t, "bogus", x.DNSSEC)
	require.Equal(t, 3, x.Exit())

	reporting := options()
	reporting.Mode = policy.ModeReport
	x = explain.Nexthop(t.Context(), bogus, "example.com", reporting)
	require.Equal(t, socketmap.StatusNotFound, x.TLSPolicy.Status)
	require.Equal(t, 3, x.Exit(), "a failed lookup is not the same as no policy, in any mode")

	x = explain.Nexthop(t.Context(), bogus, "user@[192.0.2.1]", options())
	require.Equal(t, socketmap.StatusNotFound, x.TLSPolicy.Status, "not a next hop")
	require.Equal(t, 1, x.Exit())
}

func TestASilentResolverEndsWithTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := from(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
			<-ctx.Done()
			return nil, &dns.Error{Question: q, Reason: "timed out", Err: ctx.Err()}
		})
		start := time.Now()
		x := explain.Nexthop(t.Context(), silent, "example.com", options())
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		require.Equal(t, 3, x.Exit())
	})
}

// relays is a site that relays to one host.
type relays struct {
	gather.Elsewhere
	host string
}

func (r relays) RelayHost(_ context.Context, host string, _ dns.Effort) (bool, error) {
	return host == r.host, nil
}

func TestARelayHostThatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	servfail := from(func(_ context.Context, q dns.Question) (*dns.RRset, error) {
		return nil, &dns.Error{Question: q, Reason: "SERVFAIL"}
	})
	o := options()
	o.DANE, o.MTASTS = true, true
	servfail.Site = relays{host: "relay.corp.example"}
	x := explain.Nexthop(t.Context(), servfail, "[relay.corp.example]", o)
	require.Equal(t, socketmap.StatusNotFound, x.TLSPolicy.Status)
	require.Contains(t, strings.Join(x.Why, "\n"), "relay host in Postfix's own configuration")

	servfail.Site = relays{host: "smtps-relay.corp.example"}
	x = explain.Nexthop(t.Context(), servfail, "[smtps-relay.corp.example]", o)
	require.NotEqual(t, socketmap.StatusNotFound, x.TLSPolicy.Status, "a prefix is a promise, even of a host that Postfix's configuration names")
}
