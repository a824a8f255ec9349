package socketmap

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// saidAgain is how long trouble of a kind is not said again.
const saidAgain = time.Minute

// troubles are what is logged of clients, and of a lack of room for them: each kind when it begins, and then once in a
// minute at most, however many clients there are.
type troubles struct {
	accept, full, malformed, stalled, unread trouble
}

// trouble is one kind.
type trouble struct {
	mu    sync.Mutex
	said  time.Time
	times int // that it has come since then
}

// due counts one more, and says whether it is to be logged now and how many there were since the last time.
func (t *trouble) due() (times int, yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times++
	if now := time.Now(); t.said.IsZero() || now.Sub(t.said) >= saidAgain {
		times, t.said, t.times = t.times, now, 0
		return times, true
	}
	return 0, false
}

// crowded logs that a connection was closed because there are too many.
func (s *Server) crowded() {
	if times, yes := s.troubles.full.due(); yes {
		s.logger().Warn("there are max_connections connections: for each new one the one that is idle for longest is closed, or itself if none is",
			"times", times, "max_connections", s.limit().MaxConnections)
	}
}

// log returns a logger that names the client, which has such trouble for so many times since the last line.
func (c *conn) log(times int) *slog.Logger {
	log := c.server.logger().With("listener", c.listener, "times", times)
	if client := c.net.RemoteAddr(); client.Network() != "unix" { // which has no name
		log = log.With("client", client.String())
	}
	return log
}

// malformed counts what is no request.
func (c *conn) malformed(reason string) {
	c.server.stats.malformed.Add(1)
	if times, yes := c.server.troubles.malformed.due(); yes {
		c.log(times).Warn("a client sent what is no socketmap request, and was cut off", "reason", reason)
	}
}

// stalled counts a request that was begun and did not come.
func (c *conn) stalled() {
	c.server.stats.stalled.Add(1)
	if times, yes := c.server.troubles.stalled.due(); yes {
		c.log(times).Warn("a client began a request and did not send the rest in time, and was cut off", "after", c.server.limit().RequestTimeout)
	}
}

// unwritten counts a reply that could not be written.
func (c *conn) unwritten(err error) {
	c.server.stats.writeErrors.Add(1)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return // it has gone, which is its right
	}
	if times, yes := c.server.troubles.unread.due(); yes {
		c.log(times).Warn("a client does not take its replies, and was cut off", "after", c.server.limit().WriteTimeout)
	}
}
