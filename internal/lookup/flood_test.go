package lookup_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
)

// oneOf32 is a resolver with a domain for every name. The best MX host of a domain below flood.example is good, and the
// name servers of 31 others are silent: the resolver gives up after 12 seconds. Every answer takes 5 ms.
func oneOf32(ctx context.Context, q dns.Question) (*dns.RRset, error) {
	wait := 5 * time.Millisecond
	if strings.Contains(q.Name, "silent") {
		wait = 12 * time.Second
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
	}
	if wait > time.Second {
		return nil, &dns.Error{Question: q, Reason: "timed out"}
	}
	r := &dns.RRset{Name: q.Name, Owner: q.Name, Type: q.Type, Status: dns.Insecure, Expires: time.Now().Add(time.Hour)}
	switch q.Type {
	case dns.TypeMX:
		r.Records = []dns.MX{{Preference: 1, Host: "smtps-mx." + q.Name}}
		if strings.HasSuffix(q.Name, "flood.example") {
			for i := range uint16(31) {
				r.Records = append(r.MX(), dns.MX{Preference: 2 + i, Host: fmt.Sprintf("smtps-silent%d.%s", i, q.Name)})
			}
		}
		if strings.HasPrefix(q.Name, "plain") {
			for i := range r.MX() {
				r.MX()[i].Host = strings.TrimPrefix(r.MX()[i].Host, "smtps-")
			}
		}
	case dns.TypeA:
		r.Records = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	default:
	}
	return r, nil
}

// TestAFloodOfSilentHostsStopsNoOtherMail: ten untrusted senders per second, and then a hundred deliveries at a time, name
// domains with one good MX host and 31 silent ones.
func TestAFloodOfSilentHostsStopsNoOtherMail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := dnscache.New(resolverFunc(oneOf32), dnscache.Options{})
		set := settings()
		set.Policy.DANE, set.Policy.MTASTS, set.Policy.Port26Mode = true, true, policy.PortAlways
		src := from(cache)
		src.STS, src.Version = noSTS{}, cache.Version
		s := lookup.New(src, set, slog.New(slog.DiscardHandler))
		defer running(s)()
		n := 0
		sound := func(within time.Duration) {
			n++
			start := time.Now()
			require.Equal(t, fmt.Sprintf("OK secure match=smtps-mx.d%d.sound.example servername=hostname", n), ask(s, fmt.Sprintf("tls-policy d%d.sound.example", n)))
			require.LessOrEqual(t, time.Since(start), within)
			start = time.Now()
			require.Equal(t, "NOTFOUND ", ask(s, fmt.Sprintf("tls-policy plain%d.sound.example", n)))
			require.LessOrEqual(t, time.Since(start), within)
		}
		for i := range 300 {
			go ask(s, fmt.Sprintf("transport someone@d%d.flood.example", i))
			time.Sleep(100 * time.Millisecond)
			if i%10 == 0 {
				sound(100 * time.Millisecond)
			}
		}
		for i := range 300 {
			go ask(s, fmt.Sprintf("tls-policy plain%d.flood.example", i))
			if i%100 == 0 {
				time.Sleep(time.Second)
				sound(4 * time.Second)
			}
		}
		time.Sleep(2 * time.Minute) // the flood ends
	})
}
