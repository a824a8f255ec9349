package lookup_test

import (
	"log/slog"
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

// TestAHeldNextHop plays the life of a promise: seen on three days, gone, held, forgotten.
func TestAHeldNextHop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, log := newWorld(), &testkit.Log{}
		mx := func(host string) {
			w.version++
			w.answers["MX example.com"] = &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure, MX: []dns.MX{{Preference: 10, Host: host}}}
		}
		memory := promises.New(promises.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
		set := w.settings()
		set.Policy.Vanished = promises.Hold
		s := lookup.New(lookup.Sources{Resolver: w, STS: worldSTS{w}, Version: func() uint64 { return 1 + w.version }, Probes: w, Promises: memory}, set, slog.New(slog.DiscardHandler))

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

// TestAnUntrustedSenderCannotMakeAPromise: the transport map notes nothing.
func TestAnUntrustedSenderCannotMakeAPromise(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.answers["MX example.com"] = &dns.RRset{Name: "example.com", Owner: "example.com", Type: dns.TypeMX, Status: dns.Insecure, MX: []dns.MX{{Preference: 10, Host: "smtps-a.example.com"}}}
	memory := promises.New(promises.Options{})
	s := lookup.New(lookup.Sources{Resolver: w, STS: worldSTS{w}, Version: func() uint64 { return 1 }, Probes: w, Promises: memory}, w.settings(), slog.New(slog.DiscardHandler))
	ask(s, "transport user@example.com")
	ask(s, "tls-policy [smtps-a.example.com]")
	ask(s, "tls-policy example.com:26")
	require.Empty(t, memory.List())
}
