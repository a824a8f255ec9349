package lookup_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

// everyKind has a domain of each kind: dane.example with TLSA records, unsigned.example with a prefix and without DNSSEC,
// plain.example with neither, and any other with a prefix.
func everyKind(_ context.Context, q dns.Question) (*dns.RRset, error) {
	r := &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: dns.Secure, Expires: time.Now().Add(24 * time.Hour)}
	if strings.HasSuffix(q.Name, "unsigned.example") || strings.HasSuffix(q.Name, "plain.example") {
		r.Status = dns.Insecure
	}
	bare := strings.HasSuffix(q.Name, "plain.example") || strings.HasSuffix(q.Name, "dane.example")
	switch {
	case q.Type == dns.TypeMX && bare:
		r.Records = []dns.MX{{Preference: 10, Host: "mx." + q.Name}}
	case q.Type == dns.TypeMX:
		r.Records = []dns.MX{{Preference: 10, Host: "smtps-mx." + q.Name}, {Preference: 20, Host: "starttls-mx." + q.Name}}
	case q.Type == dns.TypeA:
		r.Records = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	case q.Type == dns.TypeTLSA && strings.HasPrefix(q.Name, "_25._tcp.mx.dane."):
		r.Records = []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}
	}
	return r, nil
}

// noSTS is a store in which no domain has a policy.
type noSTS struct{}

func (noSTS) Lookup(_ context.Context, domain string, _ dns.Effort) mtasts.Result {
	return mtasts.Result{Domain: domain, State: mtasts.Absent, Why: "the domain announces no policy"}
}

// warm returns the requests that are measured, and a handler that has answered each once from a real cache: with
// DANE, MTA-STS, a log and an observer, as in the daemon.
func warm(tb testing.TB) (socketmap.Handler, map[string]string) {
	tb.Helper()
	cache := dnscache.New(resolverFunc(everyKind), dnscache.Options{})
	set := settings()
	set.Policy.DANE, set.Policy.MTASTS, set.Policy.Port26Mode = true, true, policy.PortAlways
	log := slog.New(slog.NewTextHandler(new(bytes.Buffer), &slog.HandlerOptions{Level: slog.LevelInfo}))
	src := from(cache)
	src.Resolver, src.Version, src.STS = cache, cache.Version, noSTS{}
	src.Observe = func(lookup.Kind) func(time.Duration) { return func(time.Duration) {} }
	s := lookup.New(src, set, log)
	defer running(s)() // it is needed only for what is not in the cache
	requests := map[string]string{
		"tls-policy prefix.example":         "OK secure match=smtps-mx.prefix.example:starttls-mx.prefix.example servername=hostname",
		"tls-policy prefix.example:26":      "OK secure match=smtps-mx.prefix.example servername=hostname",
		"tls-policy [smtps-mx.example]":     "OK secure match=smtps-mx.example servername=hostname",
		"tls-policy unsigned.example":       "OK secure match=smtps-mx.unsigned.example:starttls-mx.unsigned.example servername=hostname",
		"tls-policy plain.example":          "NOTFOUND ",
		"tls-policy dane.example":           "OK dane-only",
		"tls-policy .example":               "NOTFOUND ",
		"tls-policy-tlsrpt prefix.example":  "OK secure match=smtps-mx.prefix.example:starttls-mx.prefix.example servername=hostname",
		"transport user+tag@prefix.example": "OK smtps26:[smtps-mx.prefix.example]:26",
		"transport user@plain.example":      "NOTFOUND ",
		"transport *":                       "NOTFOUND ",
	}
	for request, want := range requests {
		name, key, _ := strings.Cut(request, " ")
		require.Eventually(tb, func() bool { // the first transport lookup may time out, which is NOTFOUND
			return s.ServeSocketmap(context.Background(), socketmap.Request{Map: name, Key: key}).String() == want
		}, 20*time.Second, time.Millisecond, "%s: %s", request, want)
	}
	return s, requests
}

// TestACachedLookupAllocatesLittle allows two allocations for an answer that is reused. The text of the request in the
// server is one of them.
func TestACachedLookupAllocatesLittle(t *testing.T) {
	handler, requests := warm(t)
	server := &socketmap.Server{Handler: handler}
	path := filepath.Join(t.TempDir(), "sock")
	l, err := unixsock.Listen(t.Context(), "unix:"+path, unixsock.Options{})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	ours, err := net.Dial("unix", path)
	require.NoError(t, err)
	for request, reply := range requests {
		wire, want := socketmap.AppendNetstring(nil, request), socketmap.AppendNetstring(nil, reply)
		got := make([]byte, len(want))
		allocations := testing.AllocsPerRun(200, func() {
			_, _ = ours.Write(wire)
			_, _ = io.ReadFull(ours, got)
		})
		require.Equal(t, string(want), string(got))
		if routed := strings.HasPrefix(reply, "OK smtps26"); !routed { // rests on the site, and is decided each time
			require.LessOrEqual(t, allocations, 2.0, request)
		}
	}
	require.NoError(t, ours.Close())
	require.NoError(t, server.Close())
	require.ErrorIs(t, <-served, socketmap.ErrServerClosed)
}

// BenchmarkCachedLookup shows what a lookup costs between the socket and the cache.
func BenchmarkCachedLookup(b *testing.B) {
	handler, requests := warm(b)
	for request := range requests {
		name, key, _ := strings.Cut(request, " ")
		b.Run(strings.ReplaceAll(request, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeSocketmap(context.Background(), socketmap.Request{Map: name, Key: key})
			}
		})
	}
}
