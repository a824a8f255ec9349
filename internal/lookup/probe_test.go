package lookup_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/socketmap"
)

// Untrusted senders choose the domains of the transport map, so no number of its lookups causes a probe. Outgoing mail
// does: each TLS-policy lookup, even one that is answered from the memo.
func TestOnlyMailThatLeavesCausesProbes(t *testing.T) {
	t.Parallel()
	w := newFakeSources()
	for i := range 25 {
		domain := fmt.Sprintf("d%d.example", i)
		rrset := &dns.RRset{Name: domain, Owner: domain, Type: dns.TypeMX, Status: dns.Insecure}
		for j := range 32 {
			rrset.Records = append(rrset.MX(), dns.MX{Preference: 10, Host: fmt.Sprintf("smtps-%d.%s", j, domain)})
		}
		w.answers["MX "+domain] = rrset
	}
	w.own["d3.example"] = true
	var mu sync.Mutex
	wanted := map[string]int{}
	svc := func(set lookup.Settings) socketmap.Handler {
		src := w.sources()
		src.WantProbe = func(host string) {
			mu.Lock()
			defer mu.Unlock()
			wanted[host]++
		}
		return lookup.New(src, set, slog.New(slog.DiscardHandler))
	}
	handler := svc(w.settings())
	ask := func(h socketmap.Handler, m, key string) {
		h.ServeSocketmap(context.Background(), socketmap.Request{Map: m, Key: key})
	}
	for range 4 {
		for i := range 25 {
			ask(handler, "transport", fmt.Sprintf("someone@d%d.example", i))
		}
	}
	require.Empty(t, wanted)
	ask(handler, "tls-policy", "d3.example")
	require.Empty(t, wanted, "this site receives the domain")
	for _, m := range []string{"tls-policy", "tls-policy-tlsrpt", "QUERY"} {
		for range 2 {
			ask(handler, m, "d1.example")
		}
	}
	ask(handler, "tls-policy", "d1.example:26")
	ask(handler, "tls-policy", "[smtps-7.d2.example]:26")
	require.Len(t, wanted, 33)
	require.Equal(t, 7, wanted["smtps-0.d1.example"])
	require.Equal(t, 1, wanted["smtps-7.d2.example"])

	set := w.settings()
	set.Policy.Mode = policy.ModeReport
	ask(svc(set), "tls-policy", "d9.example")
	require.Len(t, wanted, 33, "report mode")
}

// site is a site that receives domains or not, or cannot find out.
type site struct {
	gather.Elsewhere
	own  bool
	err  error
	host string
}

func (s site) Own(context.Context, string, dns.Effort) (bool, string, error) { return s.own, "", s.err }
func (s site) OwnHost(host string) bool                                      { return host == s.host }

// A host is probed unless this site receives the domain, or is the host, or cannot find out. The probe does not wait
// until the lists of the site have been read.
func TestProbesDependOnTheSite(t *testing.T) {
	t.Parallel()
	const mx = "smtps-a.example.com"
	for name, c := range map[string]struct {
		site gather.Site
		want []string
	}{
		"another site receives it": {site{}, []string{mx}},
		"this site receives it":    {site{own: true}, nil},
		"this site is the host":    {site{host: mx}, nil},
		"not read yet":             {site{err: dns.ErrNotCached}, []string{mx}},
		"cannot be read":           {site{err: errors.New("postconf failed")}, nil},
		"no site":                  {nil, nil},
	} {
		w := newFakeSources()
		w.answers["MX example.com"] = &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure, Records: []dns.MX{{Preference: 10, Host: mx}}}
		var wanted []string
		src := w.sources()
		src.Site, src.WantProbe = c.site, func(host string) { wanted = append(wanted, host) }
		s := lookup.New(src, w.settings(), slog.New(slog.DiscardHandler))
		ask(s, "tls-policy example.com")
		require.Equal(t, c.want, wanted, name)
	}
}
