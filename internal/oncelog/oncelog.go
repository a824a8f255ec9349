// Package oncelog limits a repeated log message to one line per minute, so that
// a remote party cannot fill the log by repeating what causes the message.
//
// A Limiter stands for one kind of message:
//
//	if times, due := s.malformed.Due(); due {
//		s.log.Warn("malformed request; connection closed", "times", times)
//	}
package oncelog

import (
	"sync"
	"time"
)

// interval is the least time between two lines of the same kind.
const interval = time.Minute

// Limiter counts the events of one kind. The zero value is ready to use, and it may be used concurrently.
type Limiter struct {
	mu     sync.Mutex
	logged time.Time // when an event was last due; zero if none was
	times  int       // events since then
}

// Due counts one event and reports whether to log it now: the first event always, and then at most one per minute.
// times is the number of events since the last line, this one included; it is 0 when the event is not due.
func (l *Limiter) Due() (times int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times++
	now := time.Now()
	if !l.logged.IsZero() && now.Sub(l.logged) < interval {
		return 0, false
	}
	times, l.logged, l.times = l.times, now, 0
	return times, true
}
