package stub

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
)

// "recovery within seconds of the fault's end": the back-off of names that were asked for while no server answered
// (RFC 9520 section 3.2: up to 5 minutes) ends with it, also where nobody asks for anything else.
func TestAfterAnOutageNoNameIsHeldBack(t *testing.T) {
	t.Parallel()
	running(t, []string{"127.0.0.9"}, func(t *testing.T, s *Stub, w *fakeWire) {
		w.set(func() { w.dead["127.0.0.9"] = false })
		require.Equal(t, Validating, s.waitFor(t, 2*selfTestLate))
		c := dnscache.New(s, dnscache.Options{Epoch: s.Epoch})
		w.set(func() { w.dead["127.0.0.9"] = true })
		ask := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := c.Lookup(ctx, mxOf("a.example"), dns.Effort{})
			return err
		}
		for range 600 {
			require.Error(t, ask())
			time.Sleep(time.Second)
		}
		w.set(func() { w.log = nil })
		for range 60 {
			require.Error(t, ask())
			time.Sleep(time.Second)
		}
		require.LessOrEqual(t, len(w.log), 2, "during the outage the back-off holds")
		w.set(func() { w.dead["127.0.0.9"] = false })
		time.Sleep(2*silentInterval + s.now.Load().options.Timeout)
		require.NoError(t, ask())
		time.Sleep(20 * time.Second) // what has begun ends
	})
}

// A stranger's slow name servers make a server look silent for a moment: that ends no back-off.
func TestAMomentOfSilenceIsNoOutage(t *testing.T) {
	t.Parallel()
	var p penalties
	server, now := onThisMachine()[0], time.Now()
	for silent, over := range map[time.Duration]bool{outageLeast - time.Millisecond: false, outageLeast: true} {
		p.punish(server, now)
		before := p.ended.Load()
		p.punish(server, now.Add(silent/2))
		require.Equal(t, before, p.ended.Load())
		p.pardon(server, now.Add(silent))
		require.Equal(t, over, p.ended.Load() > before, silent)
		require.Nil(t, p.outage)
		now = now.Add(time.Hour)
	}
}
