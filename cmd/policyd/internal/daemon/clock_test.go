package daemon

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// "clock: jumps one hour either way, one day forward", and "one log line that names the cause"; small corrections of a
// clock are not jumps.
func TestAClockThatIsSetIsLogged(t *testing.T) {
	t.Parallel()
	for step, logged := range map[time.Duration]string{
		0: "", time.Second: "", -29 * time.Second: "",
		time.Hour: "step=1h0m0s", -time.Hour: "step=-1h0m0s", 24 * time.Hour: "step=24h0m0s", 31*time.Second + 4*time.Millisecond: "step=31s",
	} {
		var log bytes.Buffer
		d := &Daemon{log: slog.New(slog.NewTextHandler(&log, nil))}
		d.noteClock(clockInterval+step, clockInterval)
		if logged == "" {
			require.Empty(t, log.String(), step)
			continue
		}
		require.Contains(t, log.String(), "system clock was set")
		require.Contains(t, log.String(), logged+"\n")
	}
}
