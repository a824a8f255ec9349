package socketmap_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) lines(words string) (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, words) {
			lines = append(lines, line)
		}
	}
	return lines
}

// For each fault "one log line that names the cause": one and not thousands, with the client, and nothing of what it sent.
func TestTroubleWithClientsIsLogged(t *testing.T) {
	t.Parallel()
	const half = "10:echo secret"
	for name, c := range map[string]struct {
		limits socketmap.Limits
		sends  string
		ends   bool // the client sends no more
		line   string
		reason string
	}{
		"no netstring":       {socketmap.Limits{}, "secret\n", false, "is no socketmap request", `reason="it is no netstring of at most 10000 bytes"`},
		"too long":           {socketmap.Limits{}, "10001:", false, "is no socketmap request", `reason="it is no netstring of at most 10000 bytes"`},
		"no comma":           {socketmap.Limits{}, "6:secretX", false, "is no socketmap request", `reason="no comma ends the netstring"`},
		"no map":             {socketmap.Limits{}, "6:secret,", false, "is no socketmap request", `reason="there is no space between a map and a key"`},
		"half, and the end":  {socketmap.Limits{}, half[:8], true, "is no socketmap request", `reason="the connection ended in the middle of it"`},
		"half, and no more":  {socketmap.Limits{RequestTimeout: 50 * time.Millisecond}, half[:8], false, "did not send the rest in time", "after=50ms"},
		"too many, all idle": {socketmap.Limits{MaxConnections: 1}, "", false, "there are max_connections connections", "max_connections=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &journal{}
			s := &socketmap.Server{Logger: slog.New(slog.NewTextHandler(log, nil))}
			s.SetLimits(c.limits)
			tcp, unix := serve(t, s)
			var clients []string
			for i := range 20 {
				conn := dial(t, []string{tcp, unix}[i%2])
				clients = append(clients, conn.LocalAddr().String())
				_, err := conn.Write([]byte(c.sends))
				require.NoError(t, err)
				if half, ok := conn.(interface{ CloseWrite() error }); ok && c.ends {
					require.NoError(t, half.CloseWrite())
				}
				if c.sends != "" {
					closed(t, conn)
				}
			}
			require.Eventually(t, func() bool { return len(log.lines(c.line)) > 0 }, 10*time.Second, time.Millisecond)
			line := log.lines("")
			require.Len(t, line, 1)
			require.Contains(t, line[0], "level=WARN")
			require.Contains(t, line[0], c.reason)
			require.Contains(t, line[0], " times=1 ")
			require.NotContains(t, line[0], "secret")
			if c.limits.MaxConnections == 0 {
				require.Contains(t, line[0], fmt.Sprintf("listener=%s times=1 client=%s", tcp, clients[0]))
			}
		})
	}
}

// A unix socket has a path, and its client no name.
func TestTroubleOnAUnixSocketIsLogged(t *testing.T) {
	t.Parallel()
	log := &journal{}
	s := &socketmap.Server{Logger: slog.New(slog.NewTextHandler(log, nil))}
	_, unix := serve(t, s)
	says(t, dial(t, unix), "x", "")
	require.Eventually(t, func() bool { return len(log.lines("")) == 1 }, 10*time.Second, time.Millisecond)
	require.Contains(t, log.lines("")[0], "listener="+strings.TrimPrefix(unix, "unix:")+" times=1 reason=")
}

// Who asks and does not read.
func TestAClientThatDoesNotReadIsLogged(t *testing.T) {
	t.Parallel()
	log := &journal{}
	s := &socketmap.Server{Logger: slog.New(slog.NewTextHandler(log, nil))}
	s.SetLimits(socketmap.Limits{WriteTimeout: 50 * time.Millisecond})
	tcp, _ := serve(t, s)
	c := dial(t, tcp)
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4096))
	go func() {
		request := socketmap.AppendNetstring(nil, "echo "+strings.Repeat("x", 9000))
		for {
			if _, err := c.Write(request); err != nil {
				return
			}
		}
	}()
	require.Eventually(t, func() bool { return len(log.lines("does not take its replies")) == 1 }, 20*time.Second, time.Millisecond)
}
