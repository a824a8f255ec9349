package mtasts_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// families answers the two address lookups. A family without a channel is answered immediately, another when its channel
// is closed.
type families struct {
	v4, v6       []netip.Addr
	wait4, wait6 chan struct{}
}

func (f *families) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	call := &dns.Call{Question: q, Done: make(chan struct{})}
	go func() {
		defer close(call.Done)
		call.RRset, call.Err = f.lookUp(ctx, q, e)
	}()
	return call
}

func (f *families) lookUp(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if e != (dns.Effort{}) { // a fetch is for a delivery, so its lookups are not untrusted
		return nil, &dns.Error{Question: q, Reason: "the effort is not that of a delivery"}
	}
	addrs, wait := f.v4, f.wait4
	if q.Type == dns.TypeAAAA {
		addrs, wait = f.v6, f.wait6
	}
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
		}
	}
	return &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: dns.Insecure, Records: addrs}, nil
}

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// One address family of the policy host is enough: the name servers may drop questions for the other.
func TestOneAddressFamilyIsEnough(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	never := make(chan struct{})
	host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.com"), nil, serve(enforce))
	for name, f := range map[string]*families{
		"AAAA is never answered":                  {v4: addrs("127.0.0.1"), wait6: never},
		"A is never answered":                     {wait4: never, v6: addrs("127.0.0.1")},
		"AAAA is never answered, one A is broken": {v4: addrs("127.0.0.9", "127.0.0.1"), wait6: never},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outcome, why := fetch(t, mtasts.Fetcher{Resolver: f, Roots: ca.Roots, Special: true, Port: host.port(t)})
			require.Equal(t, fetched, outcome, why)
		})
	}
	t.Run("neither is answered", func(t *testing.T) {
		t.Parallel()
		outcome, why := fetch(t, mtasts.Fetcher{Resolver: &families{wait4: never, wait6: never}, Roots: ca.Roots, Special: true})
		require.Equal(t, "sts-policy-fetch-error", outcome)
		require.Contains(t, why, "no answer in time")
	})
}

// The addresses of the family that was answered late are tried too, if those of the other do not work.
func TestALateAddressFamilyIsUsed(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.com"), nil, serve(enforce))
	f := &families{v4: addrs("127.0.0.7"), v6: addrs("127.0.0.1"), wait6: make(chan struct{})}
	// The second family is answered when the address of the first has failed.
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", netip.AddrPortFrom(f.v4[0], host.port(t)).String())
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.Close()
		}
		close(f.wait6)
		done <- err
	}()
	outcome, why := fetch(t, mtasts.Fetcher{Resolver: f, Roots: ca.Roots, Special: true, Port: host.port(t)})
	require.Equal(t, fetched, outcome, why)
	require.NoError(t, <-done)
	require.NoError(t, l.Close())
}

// An operator who reads the reason must see what happened at each address: a host behind NAT64 or without IPv6 fails in
// a different way at each.
func TestTheReasonNamesEveryAddress(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	host := at(t, "127.0.0.1:0", ca.Names(t, "mta-sts.example.org"), nil, http.NotFound)
	f := &families{v4: addrs("127.0.0.8", "127.0.0.9"), v6: addrs("127.0.0.1")}
	outcome, why := fetch(t, mtasts.Fetcher{Resolver: f, Roots: ca.Roots, Special: true, Port: host.port(t)})
	require.Equal(t, "sts-webpki-invalid", outcome)
	require.Contains(t, why, "127.0.0.8: connect: connection refused")
	require.Contains(t, why, "127.0.0.1: tls: ")
	require.Contains(t, why, "127.0.0.9: connect: connection refused")

	f = &families{v4: addrs("10.0.0.1", "127.0.0.1"), v6: addrs("64:ff9b::a00:1", "64:ff9b::7f00:1", "2620:4f:8000::1")}
	outcome, why = fetch(t, mtasts.Fetcher{Resolver: f, Roots: ca.Roots, Port: host.port(t)})
	require.Equal(t, "sts-policy-fetch-error", outcome)
	for _, a := range append(f.v4, f.v6...) {
		require.Contains(t, why, a.String())
	}
	require.Contains(t, why, "special-purpose")
}
