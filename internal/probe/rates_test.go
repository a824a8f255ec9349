package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
)

// One network takes 20 connections immediately and then one per second. Nothing is taken where that is not enough.
func TestRateOfANetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRates()
		addrs := slices.Repeat([]netip.Addr{netip.MustParseAddr("8.8.8.8")}, 32)
		other := netip.MustParseAddr("9.9.9.9")
		for r.limiter(other) == r.limiter(addrs[0]) { // they have the same hash
			r = newRates()
		}
		for _, c := range []struct {
			addrs []netip.Addr
			late  time.Duration
		}{
			{addrs[:20], 0},
			{addrs[:5], 5 * time.Second},
			{append(slices.Repeat([]netip.Addr{other}, 20), addrs[:5]...), 5 * time.Second},
			{slices.Repeat([]netip.Addr{other}, 20), 0},
		} {
			require.Equal(t, c.late, r.admit(c.addrs))
		}
		time.Sleep(5 * time.Second)
		require.Zero(t, r.admit(addrs[:5]))
		r = newRates()
		require.Zero(t, r.admit(addrs), "a host with more connections than a network takes immediately is not put off for good")
	})
}

func TestRateOverAll(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := newRates()
	require.True(t, r.all.AllowN(now, 40))
	require.False(t, r.all.AllowN(now, 1))
	require.True(t, r.all.AllowN(now.Add(time.Second), 10))
	require.False(t, r.all.AllowN(now.Add(time.Second), 1))
}

// However many networks there are, the memory is bounded, and each network has one rate.
func TestNumberOfNetworksIsBounded(t *testing.T) {
	t.Parallel()
	r := newRates()
	limiters := map[*rate.Limiter]bool{}
	for i := range 4 * maxNetworks {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1})
		limiters[r.limiter(a)] = true
		require.Same(t, r.limiter(a), r.limiter(a.Next()))
	}
	require.LessOrEqual(t, len(limiters), maxNetworks)
	require.Greater(t, len(limiters), maxNetworks/2, "few share one")
}

// One accepted connection ends the suspicion of a filter, even beside a silent address, and so do new settings. After
// that, five other hosts must fail before a filter is reported.
func TestEndOfAnEgressFilter(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *network, *Prober){
		"a connection": func(t *testing.T, w *network, p *Prober) {
			w.host(mx, plain, "8.8.8.8", "8.8.4.4")
			w.host("smtps-x.example.com", silent, "8.8.4.4")
			p.Probe(t.Context(), mx)
		},
		"other settings": func(_ *testing.T, w *network, p *Prober) {
			o := w.options()
			o.Port = 2626
			p.Configure(o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newNetwork()
			p := w.prober(t, w.options())
			for i := range 5 {
				w.host(mxn(i), silent, fmt.Sprintf("9.9.%d.1", i))
				p.Probe(t.Context(), mxn(i))
			}
			require.True(t, p.Stats().EgressFiltered)
			end(t, w, p)
			require.False(t, p.Stats().EgressFiltered)
			for i := range 4 {
				w.host(mxn(10+i), silent, fmt.Sprintf("9.10.%d.1", i))
				p.Probe(t.Context(), mxn(10+i))
			}
			require.False(t, p.Stats().EgressFiltered)
		})
	}
}

func TestNumberOfAddresses(t *testing.T) {
	t.Parallel()
	for n, cause := range map[int]smtptls.Cause{16: smtptls.CauseNone, 17: smtptls.AddressNotAllowed} {
		w := newNetwork()
		p := w.prober(t, w.options())
		var addrs []string
		for i := range n {
			addrs = append(addrs, fmt.Sprintf("8.8.8.%d", i+1))
		}
		w.host(mx, good, addrs...)
		require.Equal(t, cause, p.Probe(t.Context(), mx).Cause)
	}
}

// effortResolver notes the efforts of lookups.
type effortResolver struct {
	*network
	efforts chan dns.Effort
}

func (r effortResolver) Start(ctx context.Context, q dns.Question, e dns.Effort) *dns.Call {
	r.efforts <- e
	return r.network.Start(ctx, q, e)
}

// Remote parties choose the hosts: the cache must not refresh their addresses. An address counts once.
func TestLookupOfAddresses(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	w.host(mx, good, "8.8.8.8", "8.8.8.8", "2600::1", "2600::1")
	r := effortResolver{w, make(chan dns.Effort, 2)}
	addrs, err := addresses(t.Context(), r, mx)
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("2600::1")}, addrs)
	require.Equal(t, dns.Effort{Untrusted: true}, <-r.efforts)
	require.Equal(t, dns.Effort{Untrusted: true}, <-r.efforts)
}
