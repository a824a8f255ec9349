package probe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/smtptls"
)

// The clock jumps one hour either way, or one day forward: no verdict is used beyond its time or before it, and the
// host is probed again within minutes and not hours later.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"an hour back": -time.Hour, "an hour forward": time.Hour, "a day forward": 24 * time.Hour} {
		for _, state := range []State{Open, Closed} {
			t.Run(name+", "+state.String(), func(t *testing.T) {
				t.Parallel()
				run(t, func(t *testing.T, w *network, p *Prober) {
					w.host(mx, map[State]func(*smtptls.Transcript){Open: good, Closed: refusing}[state], "8.8.8.8")
					ask(p, mx)
					pass(time.Second)
					require.Equal(t, state, ask(p, mx).State)
					p.hosts.Lock()
					h, now := p.hosts.Records[mx], wallClock().Add(jump)
					valid, wait := h.valid(now), h.wait(now)
					p.hosts.Unlock()
					if jump != time.Hour { // that is well within the life of a verdict
						require.Equal(t, Unknown, valid.State)
					}
					require.LessOrEqual(t, wait, probeInterval)
				})
			})
		}
	}
}
