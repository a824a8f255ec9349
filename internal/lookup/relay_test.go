package lookup_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/testkit"
)

// relays is a site that relays to one host; "broken" is an error.
type relays struct {
	gather.Elsewhere
	host string
}

func (r relays) RelayHost(_ context.Context, host string, e dns.Effort) (bool, error) {
	if e.CacheOnly {
		return false, dns.ErrNotCached
	}
	if host == "broken.corp.example" {
		return false, errors.New("postmap: fatal: no such table")
	}
	return host == r.host, nil
}

func TestARelayHostOfPostfixThatCannotBeLookedUpDoesNotStopMail(t *testing.T) {
	t.Parallel()
	servfail := resolverFunc(func(_ context.Context, q dns.Question) (*dns.RRset, error) {
		return nil, &dns.Error{Question: q, Reason: "SERVFAIL"}
	})
	set := settings()
	set.Policy.DANE, set.Policy.MTASTS = true, true
	for name, cached := range map[string]dns.Resolver{"failure not in the cache": nothing(), "failure in the cache": servfail} {
		log := &testkit.Log{}
		src := from(views{asking: servfail, cached: cached})
		src.Site = relays{host: "relay.corp.example"}
		s := lookup.New(src, set, slog.New(slog.NewTextHandler(log, nil)))
		for request, want := range map[string]string{
			"tls-policy [relay.corp.example]":            "NOTFOUND",
			"tls-policy [Relay.Corp.Example]:25":         "NOTFOUND",
			"tls-policy [relay.corp.example]:smtp":       "NOTFOUND",
			"tls-policy-tlsrpt [relay.corp.example]":     "NOTFOUND",
			"tls-policy [other.corp.example]":            "TEMP",
			"tls-policy [broken.corp.example]":           "TEMP",
			"tls-policy [smtps-relay.corp.example]":      "TEMP",
			"tls-policy [starttls-relay.corp.example]":   "TEMP",
			"tls-policy relay.corp.example":              "TEMP",
			"tls-policy [relay.corp.example]:587":        "NOTFOUND",
			"tls-policy [relay.corp.example.attacker.x]": "TEMP",
		} {
			for range 2 {
				got, _, _ := strings.Cut(ask(s, request), " ")
				require.Equal(t, want, got, "%s, %s", name, request)
			}
		}
		require.Equal(t, 1, strings.Count(log.String(), "relay host of Postfix cannot be looked up"), "one warning per minute")
		require.Contains(t, log.String(), "level=WARN")
		require.Contains(t, log.String(), "relay.corp.example")
	}
}

func TestARelayHostThatCanBeLookedUpKeepsItsPolicy(t *testing.T) {
	t.Parallel()
	f := policy.Facts{Nexthop: policy.Nexthop{Name: "relay.corp.example", Host: true, Port: 25}, Relay: true, Known: policy.FactSet{Relay: true}}
	f.Hosts = []policy.Host{{Name: "relay.corp.example", DANE: dane.Result{State: dane.Failed}}}
	usable := f
	usable.Hosts = []policy.Host{{Name: "relay.corp.example", DANE: dane.Result{State: dane.Usable}}}
	o := policy.Options{DANE: true}
	d := policy.Decide(usable, o)
	require.Equal(t, policy.LevelDANEOnly, d.TLS.Level)
	d = policy.Decide(f, o)
	require.Equal(t, policy.None, d.Verdict)
	f.Relay = false
	d = policy.Decide(f, o)
	require.Equal(t, policy.Defer, d.Verdict)
}
