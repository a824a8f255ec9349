package lookup_test

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/testkit"
)

// remembering are the sources of a service that remembers promises.
func (w *fakeSources) remembering(memory *promises.Store) lookup.Sources {
	src := w.sources()
	src.History, src.Promised, src.Version = memory.History, memory.Observe, func() uint64 { return 1 + w.version }
	return src
}

// TestAHeldNextHop follows a promise: seen on three days, missing, held, forgotten.
func TestAHeldNextHop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, log := newFakeSources(), &testkit.Log{}
		mx := func(host string) {
			w.version++
			w.answers["MX example.com"] = &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure, Records: []dns.MX{{Preference: 10, Host: host}}}
		}
		memory := promises.New(promises.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
		set := w.settings()
		set.Policy.OnVanished = promises.Hold
		s := lookup.New(w.remembering(memory), set, slog.New(slog.DiscardHandler))

		mx("starttls-a.example.com")
		for range 3 {
			require.Equal(t, "NOTFOUND ", ask(s, "transport user@example.com"))
			require.Equal(t, "OK secure match=starttls-a.example.com servername=hostname", ask(s, "tls-policy example.com"))
			require.Equal(t, "NOTFOUND ", ask(s, "tls-policy plain.example"))
			time.Sleep(24 * time.Hour)
		}
		require.Len(t, memory.List(), 1, "only a domain with a promise is remembered")

		mx("mx.example.com")
		require.Equal(t, "NOTFOUND ", ask(s, "transport user@example.com"))
		require.Empty(t, memory.Vanished(), "the transport map is for untrusted senders and changes nothing")
		require.Contains(t, ask(s, "tls-policy example.com"), "TEMP example.com is held")
		time.Sleep(time.Second)
		require.Contains(t, ask(s, "tls-policy-tlsrpt example.com"), "TEMP example.com is held")
		require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "one warning")
		require.True(t, memory.Forget("example.com"))
		require.Equal(t, "NOTFOUND ", ask(s, "tls-policy example.com"))
	})
}

// TestAnUntrustedSenderCannotMakeAPromise: a transport lookup records nothing.
func TestAnUntrustedSenderCannotMakeAPromise(t *testing.T) {
	t.Parallel()
	w := newFakeSources()
	w.answers["MX example.com"] = &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure, Records: []dns.MX{{Preference: 10, Host: "smtps-a.example.com"}}}
	memory := promises.New(promises.Options{})
	s := lookup.New(w.remembering(memory), w.settings(), slog.New(slog.DiscardHandler))
	ask(s, "transport user@example.com")
	ask(s, "tls-policy [smtps-a.example.com]")
	ask(s, "tls-policy example.com:26")
	require.Empty(t, memory.List())
}

// trust is a resolver that validates or not. The test must be a recent one.
type trust struct{ lost, tested bool }

func (r *trust) Validates(_ context.Context, e dns.Effort) (bool, error) {
	if e.CacheOnly && !r.tested {
		return false, dns.ErrNotCached
	}
	r.tested = true
	return !r.lost, nil
}

// TestAResolverThatStopsValidatingDoesNotEndAPromise: while every domain seems to have lost DANE, none counts as
// missing it, and nothing is forgotten.
func TestAResolverThatStopsValidatingDoesNotEndAPromise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, log := newFakeSources(), &testkit.Log{}
		show := func(status dns.Status, host string) {
			w.version++
			set := func(name string, typ dns.Type, r dns.RRset) {
				r.Name, r.Owner, r.Type, r.Status = name, name, typ, status
				w.answers[typ.String()+" "+name] = &r
			}
			for _, domain := range []string{"example.com", "example.net"} {
				set(domain, dns.TypeMX, dns.RRset{Records: []dns.MX{{Preference: 10, Host: host}}})
			}
			set("mx.example.com", dns.TypeA, dns.RRset{Records: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
			set("_25._tcp.mx.example.com", dns.TypeTLSA, dns.RRset{Records: []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}}})
		}
		memory, resolver := promises.New(promises.Options{Log: slog.New(slog.NewTextHandler(log, nil))}), &trust{}
		set := w.settings()
		set.Policy.OnVanished, set.Policy.DANE = promises.Hold, true
		src := w.remembering(memory)
		src.Validates = resolver.Validates
		s := lookup.New(src, set, slog.New(slog.DiscardHandler))
		show(dns.Secure, "mx.example.com")
		for range 3 {
			require.Equal(t, "OK dane-only", ask(s, "tls-policy example.com"))
			require.Equal(t, "OK dane-only", ask(s, "tls-policy example.net"))
			time.Sleep(24 * time.Hour)
		}
		show(dns.Insecure, "mx.example.com")
		resolver.lost, resolver.tested = true, false
		for range 10 {
			require.Equal(t, "NOTFOUND ", ask(s, "tls-policy example.com"))
			require.Equal(t, "NOTFOUND ", ask(s, "tls-policy example.net"))
			time.Sleep(time.Hour)
		}
		require.True(t, resolver.tested)
		require.Empty(t, memory.Vanished())
		require.NotContains(t, log.String(), "level=WARN")
		resolver.lost = false
		require.Contains(t, ask(s, "tls-policy example.com"), "TEMP example.com is held", "nothing was forgotten")
		resolver.lost = true
		time.Sleep(time.Hour)
		require.Contains(t, ask(s, "tls-policy example.com"), "TEMP example.com is held", "the loss of trust ends no hold")
		require.Equal(t, "NOTFOUND ", ask(s, "tls-policy example.net"))
		require.Len(t, memory.Vanished(), 1)
	})
}
