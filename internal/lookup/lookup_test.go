package lookup_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/testkit"
	"github.com/policyd/policyd/socketmap"
)

// resolverFunc is a Resolver made of a function.
type resolverFunc func(context.Context, dns.Question) (*dns.RRset, error)

func (f resolverFunc) Lookup(ctx context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	return f(ctx, q)
}

// starting gives a resolver the method Start.
type starting struct{ dns.Resolver }

func (s starting) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	c := &dns.Call{Question: q, Done: make(chan struct{})}
	look := func() {
		defer close(c.Done)
		c.RRset, c.Err = s.Lookup(ctx, q, e)
	}
	if e.CacheOnly || ctx.Err() != nil {
		look()
	} else {
		go look()
	}
	return c
}

// views asks one resolver, and uses another one as its cache.
type views struct{ asking, cached dns.Resolver }

func (v views) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if e.CacheOnly {
		return v.cached.Lookup(ctx, q, e)
	}
	return v.asking.Lookup(ctx, q, e)
}

// nothing is an empty cache.
func nothing() dns.Resolver {
	return resolverFunc(func(context.Context, dns.Question) (*dns.RRset, error) { return nil, dns.ErrNotCached })
}

// everywhere is a resolver in which every domain has one MX host, smtps-mx.<domain>. It answers after a delay.
func everywhere(delay time.Duration, asked *atomic.Int64) dns.Resolver {
	return resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
		if asked != nil {
			asked.Add(1)
		}
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-ctx.Done():
				return nil, &dns.Error{Question: q, Reason: "timed out", Err: ctx.Err()}
			}
		}
		r := &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: dns.Secure}
		switch q.Type {
		case dns.TypeMX:
			r.Records = []dns.MX{{Preference: 10, Host: "smtps-mx." + q.Name}}
		case dns.TypeA:
			r.Records = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		default:
		}
		return r, nil
	})
}

// from are the sources of a service that receives nothing.
func from(r dns.Resolver) lookup.Sources {
	return lookup.Sources{
		Engine:  gather.Engine{Resolver: starting{r}, Site: gather.Elsewhere{}},
		Version: func() uint64 { return 0 },
	}
}

func settings() lookup.Settings {
	return lookup.Settings{
		Wait:   200 * time.Millisecond,
		Policy: policy.Options{Mode: policy.ModeEnforce, Port26Mode: policy.PortAlways, Port26: 26, Transport: "smtps26"},
	}
}

func ask(s *lookup.Service, request string) string {
	m, key, _ := strings.Cut(request, " ")
	return s.ServeSocketmap(context.Background(), socketmap.Request{Map: m, Key: key}).String()
}

func service(asking, cached dns.Resolver, s lookup.Settings) *lookup.Service {
	return lookup.New(from(views{asking: asking, cached: cached}), s, slog.New(slog.DiscardHandler))
}

// running starts s inside a synctest bubble and stops it when the test function returns.
func running(s *lookup.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(ctx) // ends with its context
	}()
	return func() {
		cancel()
		<-ended
	}
}

func TestMaps(t *testing.T) {
	t.Parallel()
	full := everywhere(0, nil)
	const secure = "OK secure match=smtps-mx.example.com servername=hostname"
	for request, want := range map[string]string{
		"tls-policy example.com":            secure,
		"tls-policy-tlsrpt example.com":     secure,
		"QUERY example.com":                 secure,
		"QUERYwithTLSRPT example.com":       secure,
		"sts example.com":                   secure,
		"STS example.com":                   secure,
		"query example.com":                 secure,
		"querywithtlsrpt example.com":       secure,
		"Tls-Policy example.com":            secure,
		"TLS-POLICY-TLSRPT example.com":     secure,
		"TRANSPORT user@example.com":        "OK smtps26:example.com:26",
		"tls-policy EXAMPLE.com.:smtp":      secure,
		"tls-policy example.com:26":         secure,
		"tls-policy [smtps-x.example]:26":   "OK secure match=smtps-x.example servername=hostname",
		"tls-policy example.com:587":        "NOTFOUND ",
		"tls-policy .example.com":           "NOTFOUND ",
		"tls-policy user@example.com":       "NOTFOUND ",
		"tls-policy ":                       "NOTFOUND ",
		"transport user@example.com":        "OK smtps26:example.com:26",
		"transport example.com":             "OK smtps26:example.com:26",
		"transport *":                       "NOTFOUND ",
		"transport ":                        "NOTFOUND ",
		"transport user@[192.0.2.1]":        "NOTFOUND ",
		"transport \"a@b\xff\"@example.com": "OK smtps26:example.com:26",
	} {
		require.Equal(t, want, ask(service(full, full, settings()), request), request)
	}
}

// The key of transport is a recipient, of which the domain counts, or a bare domain. Its next hop is by MX on port 25.
func TestTheDomainOfARecipient(t *testing.T) {
	t.Parallel()
	full := everywhere(0, nil)
	for key, want := range map[string]string{
		"user@example.com":                  "example.com",
		"User+Ext@EXAMPLE.com":              "example.com",
		`"a@b c"@example.com`:               "example.com",
		"a@b@example.com":                   "example.com",
		"example.com":                       "example.com",
		"user@example.com.":                 "example.com",
		"jürgen@münchen.example":            "xn--mnchen-3ya.example",
		"\x00\xff@example.com":              "example.com",
		"u@_x.example":                      "_x.example",
		strings.Repeat("x", 9000) + "@a.eu": "a.eu",
	} {
		require.Equal(t, "OK smtps26:"+want+":26", ask(service(full, full, settings()), "transport "+key), "%q", key)
	}
	for _, key := range []string{"*", "", "user@", "@", ".example.com", "user@.example.com", "user@[192.0.2.1]", "user@[IPv6:::1]", "u@192.0.2.1", "[mx.example.com]", "example.com:26", "u@exa mple.com", "u@" + strings.Repeat("x", 9000)} {
		var asked atomic.Int64
		counting := everywhere(0, &asked)
		require.Equal(t, "NOTFOUND ", ask(service(counting, counting, settings()), "transport "+key), "%q", key)
		require.Zero(t, asked.Load(), "%q: no DNS query", key)
	}
}

func TestModeOffAsksNothing(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := settings()
	s.Policy.Mode = policy.ModeOff
	svc := service(everywhere(0, &asked), everywhere(0, &asked), s)
	require.Equal(t, "NOTFOUND ", ask(svc, "tls-policy example.com"))
	require.Equal(t, "NOTFOUND ", ask(svc, "transport example.com"))
	require.Zero(t, asked.Load())
}

func TestTLSPolicyOverBudgetIsTEMP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := service(everywhere(time.Hour, nil), nothing(), settings())
		start := time.Now()
		require.Equal(t, "TEMP MX lookup for example.com failed: timed out", ask(svc, "tls-policy example.com"))
		require.Equal(t, 6*time.Second, time.Since(start), "the part of the budget for the MX RRset")
	})
}

func TestTransportNeverTakesLongerThanWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		svc := service(everywhere(time.Second, &asked), nothing(), settings())
		defer running(svc)()
		start := time.Now()
		require.Equal(t, "NOTFOUND ", ask(svc, "transport user@example.com"))
		require.Equal(t, 175*time.Millisecond, time.Since(start), "an eighth is left for the reply")
		time.Sleep(5 * time.Second)
		require.Equal(t, int64(3), asked.Load(), "the lookup continues in the background: MX, A and AAAA")
	})
}

func TestTransportWaitsForAQuickLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := service(everywhere(20*time.Millisecond, nil), nothing(), settings())
		defer running(svc)()
		require.Equal(t, "OK smtps26:example.com:26", ask(svc, "transport user@example.com"))
	})
}

func TestTheNinthWaitingRequestIsAnsweredImmediately(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := service(everywhere(time.Second, nil), nothing(), settings())
		defer running(svc)()
		for i := range 8 {
			go ask(svc, fmt.Sprintf("transport user@example%d.com", i))
		}
		synctest.Wait()
		start := time.Now()
		require.Equal(t, "NOTFOUND ", ask(svc, "transport user@example.org"))
		require.Zero(t, time.Since(start))
		time.Sleep(300 * time.Millisecond)
		require.Equal(t, "NOTFOUND ", ask(svc, "transport user@example.org"))
		require.Equal(t, 475*time.Millisecond, time.Since(start), "there is room again")
	})
}

func TestNoRequestWaitsWhileNoWorkerIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := service(everywhere(time.Minute, nil), nothing(), settings())
		defer running(svc)()
		for i := range 64 {
			go ask(svc, fmt.Sprintf("transport user@example%d.com", i))
		}
		time.Sleep(time.Second)
		start := time.Now()
		for i := range 100 {
			require.Equal(t, "NOTFOUND ", ask(svc, fmt.Sprintf("transport user@example%d.net", i)))
		}
		require.Zero(t, time.Since(start), "a flood of slow domains does not make other requests wait")
		time.Sleep(time.Hour)
		start = time.Now()
		require.Equal(t, "NOTFOUND ", ask(svc, "transport user@example.org"))
		require.Equal(t, 175*time.Millisecond, time.Since(start), "workers are free again")
	})
}

func TestBackgroundLookupsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most, all atomic.Int64
		asking := resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			all.Add(1)
			return everywhere(time.Second, nil).Lookup(ctx, dns.Question{Name: q.Name, Type: dns.TypeA}, dns.Effort{})
		})
		var log testkit.Log
		svc := lookup.New(from(views{asking: asking, cached: nothing()}), settings(), slog.New(slog.NewTextHandler(&log, nil)))
		defer running(svc)()
		for i := range 20_000 {
			go ask(svc, fmt.Sprintf("transport user@example%d.com", i))
		}
		time.Sleep(time.Hour)
		require.LessOrEqual(t, most.Load(), int64(64))
		require.LessOrEqual(t, all.Load(), int64(64+1024+64), "the oldest waiting are dropped")
		require.Equal(t, int64(20_000), int64(svc.Stats().Replies["transport"]["NOTFOUND"]))
		const line = "too many routes of unknown domains to look up"
		require.Equal(t, 1, strings.Count(log.String(), line), "the cause is named, and not by the thousand")
		require.Contains(t, log.String(), "waiting=1024 dropped=1\n")
		for i := range 3000 {
			go ask(svc, fmt.Sprintf("transport user@again%d.com", i))
		}
		time.Sleep(time.Hour)
		require.Equal(t, 2, strings.Count(log.String(), line))
		require.NotContains(t, log.String(), "user")
	})
}

func TestOneDomainIsLookedUpOnceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		svc := service(everywhere(time.Second, &asked), nothing(), settings())
		defer running(svc)()
		for i := range 100 {
			go ask(svc, fmt.Sprintf("transport user%d@example.com", i))
		}
		time.Sleep(time.Minute)
		require.Equal(t, int64(3), asked.Load())
	})
}

// starterFunc is a dns.Starter made of a function.
type starterFunc func(dns.Question, dns.Effort) *dns.Call

func (f starterFunc) Start(_ context.Context, q dns.Question, e dns.Effort) *dns.Call { return f(q, e) }

// panicking has nothing in its cache, and panics over a lookup with one of the efforts.
func panicking(over ...dns.Effort) starterFunc {
	return func(q dns.Question, e dns.Effort) *dns.Call {
		if slices.Contains(over, e) {
			panic("broken")
		}
		c := &dns.Call{Question: q, Done: make(chan struct{}), Err: dns.ErrNotCached}
		close(c.Done)
		return c
	}
}

func TestAPanicIsNotAnAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testkit.Log
		src := from(nil)
		src.Resolver = panicking(dns.Effort{CacheOnly: true, Untrusted: true}, dns.Effort{CacheOnly: true})
		svc := lookup.New(src, settings(), slog.New(slog.NewTextHandler(&log, nil)))
		defer running(svc)()
		require.Equal(t, "TEMP internal error", ask(svc, "tls-policy example.com"))
		require.Equal(t, "NOTFOUND ", ask(svc, "transport jane.doe@example.com"))
		require.Contains(t, log.String(), "lookup.go", "with the stack")
		require.NotContains(t, log.String(), "jane.doe", "never a local part")
		require.Equal(t, uint64(2), svc.Stats().Panics)

		src.Resolver = panicking(dns.Effort{Untrusted: true})
		svc = lookup.New(src, settings(), slog.New(slog.DiscardHandler))
		defer running(svc)()
		require.Equal(t, "NOTFOUND ", ask(svc, "transport jane.doe@example.com"), "in the background too")
		require.Equal(t, uint64(1), svc.Stats().Panics)
	})
}

func TestDecisionsAreLoggedWhenTheyChange(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	host := "starttls-a.example.com"
	full := resolverFunc(func(context.Context, dns.Question) (*dns.RRset, error) {
		return &dns.RRset{Status: dns.Insecure, Records: []dns.MX{{Host: host}}}, nil
	})
	svc := lookup.New(from(full), settings(), slog.New(slog.NewTextHandler(&log, nil)))
	lines := func() int { defer log.Reset(); return strings.Count(log.String(), "changed=true") }

	ask(svc, "tls-policy example.com")
	require.Contains(t, log.String(), "unsigned=true")
	require.Equal(t, 1, lines())
	ask(svc, "tls-policy example.com")
	require.Zero(t, lines(), "nothing new")
	host = "mx.example.com"
	ask(svc, "tls-policy example.com")
	require.Equal(t, 1, lines(), "the policy is gone")
	ask(svc, "tls-policy example.com")
	ask(svc, "tls-policy example.org")
	require.Zero(t, lines(), "no policy, and there never was one")
	require.Equal(t, uint64(2), svc.Stats().Unsigned)
}

func TestUntrustedSendersCannotFillTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	full := everywhere(0, nil)
	svc := lookup.New(from(full), settings(), slog.New(slog.NewTextHandler(&log, nil)))
	for i := range 10_000 {
		ask(svc, fmt.Sprintf("transport jane.doe@example%d.com", i))
	}
	require.Less(t, strings.Count(log.String(), "\n"), 2000)
	require.NotContains(t, log.String(), "jane.doe", "never a local part")
}
