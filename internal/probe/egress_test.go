package probe

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
)

func TestEgressFilter(t *testing.T) {
	t.Parallel()
	ask := func(p *Prober, w *network, from, n int, like func(*smtptls.Transcript)) {
		for i := range n {
			w.host(mxn(from+i), like, fmt.Sprintf("9.%d.%d.1", from, i))
			p.Want(mxn(from + i))
		}
		pass(10 * time.Minute)
	}
	const noticed, cleared = "appears to be blocked", "succeed again"
	t.Run("many hosts in many networks are silent", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			ask(p, w, 0, 4, silent)
			require.False(t, p.Stats().EgressFiltered)
			ask(p, w, 120, 5, silent)
			require.True(t, p.Stats().EgressFiltered)
			require.True(t, p.Stats().EgressFiltered)
			require.Equal(t, 1, w.log.Count(noticed), "once")

			ask(p, w, 210, 1, plain)
			require.False(t, p.Stats().EgressFiltered, "an accepted connection shows that the port is not blocked")
			require.Equal(t, 1, w.log.Count(cleared))
		})
	})
	t.Run("one network proves nothing", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			for i := range 10 {
				w.host(mxn(i), silent, fmt.Sprintf("8.8.8.%d", i+1))
				p.Want(mxn(i))
			}
			pass(10 * time.Minute)
			require.False(t, p.Stats().EgressFiltered)
		})
	})
	t.Run("nor does one host of many addresses", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			for i := range 10 {
				w.host(mx, silent, fmt.Sprintf("8.8.%d.1", i+1))
				p.Probe(t.Context(), mx)
			}
			ask(p, w, 120, 3, silent)
			require.False(t, p.Stats().EgressFiltered, "it counts once")
		})
	})
	t.Run("a refusal is an answer", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			ask(p, w, 0, 120, refusing)
			ask(p, w, 120, 4, silent)
			require.False(t, p.Stats().EgressFiltered)
		})
	})
	t.Run("the host wanted last does not wait for 120 silent ones", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			ask(p, w, 0, 9, silent)
			require.True(t, p.Stats().EgressFiltered)
			w.host(mx, good, "8.8.8.8")
			p.Want(mx)
			for i := range 120 {
				w.host(mxn(2000+i), silent, fmt.Sprintf("11.0.%d.1", i))
				p.Want(mxn(2000 + i))
			}
			pass(time.Second)
			p.Want(mx) // the next mail to it
			pass(time.Minute)
			require.Equal(t, Open, p.Verdict(mx).State)
			require.False(t, p.Stats().EgressFiltered)
		})
	})
	t.Run("nor any number while a host is open", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			w.host(mx, good, "8.8.8.8")
			p.Want(mx)
			pass(time.Second)
			ask(p, w, 50, 10, silent)
			require.False(t, p.Stats().EgressFiltered)
		})
	})
	t.Run("nor hosts that accept the connection and break their promise", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *network, p *Prober) {
			ask(p, w, 60, 10, plain)
			require.False(t, p.Stats().EgressFiltered)
		})
	})
}
