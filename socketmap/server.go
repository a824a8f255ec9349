package socketmap

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("socketmap: server closed")

// Limits bound what clients can cause. A zero or negative field means its default.
type Limits struct {
	// MaxConnections is how many connections may be open; default 4096. When it is reached, the one that has been idle
	// longest is closed for a new one. A connection is also idle after a part of a request, but not while it is
	// answered.
	MaxConnections int
	// IdleTimeout is how long a connection may be silent between requests; default 2 minutes.
	IdleTimeout time.Duration
	// RequestTimeout is how long a request may take after its first byte; default 10 seconds, at most IdleTimeout.
	RequestTimeout time.Duration
	// WriteTimeout is how long a client may take to accept a reply; default 10 seconds.
	WriteTimeout time.Duration
}

func (l Limits) withDefaults() *Limits {
	if l.MaxConnections <= 0 {
		l.MaxConnections = 4096
	}
	l.IdleTimeout = timeoutOr(l.IdleTimeout, 2*time.Minute)
	l.RequestTimeout = min(timeoutOr(l.RequestTimeout, 10*time.Second), l.IdleTimeout)
	l.WriteTimeout = timeoutOr(l.WriteTimeout, 10*time.Second)
	return &l
}

// timeoutOr returns t, or usual if t is not positive.
func timeoutOr(t, usual time.Duration) time.Duration {
	if t <= 0 {
		return usual
	}
	return min(t, math.MaxInt64/2) // a time on the server's clock plus a timeout must not overflow
}

// Server answers requests on any number of listeners. Do not change its fields after the first call of Serve.
type Server struct {
	// Handler answers the requests; it must not be nil.
	Handler Handler
	// Limits are the limits at the start; zero fields mean the defaults.
	Limits Limits
	// Logger receives problems with clients, listeners and handlers, at most one message of each kind per minute. Keys
	// are never logged. Nil logs nothing.
	Logger *slog.Logger

	limits  atomic.Pointer[Limits] // the effective limits; nil before the first use without SetLimits
	closing atomic.Bool            // connections end; set after all listeners are closed
	serving sync.WaitGroup         // goroutines of connections

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	started   time.Time       // just before the first use; the zero of the server's clock
	closed    chan struct{}   // closed by Shutdown and Close, before they close the listeners
	ctx       context.Context // the context of the handlers
	cancel    context.CancelFunc
	stats     Stats
	logged    map[*uint64]logged // the last log message for each counter in stats
}

// Stats are counters since the server was created, except Open.
type Stats struct {
	Open         int    // connections that are open now
	Accepted     uint64 // connections accepted
	Evicted      uint64 // idle connections closed to make room for a new one
	Refused      uint64 // new connections closed because no other one was idle
	Idle         uint64 // connections closed after IdleTimeout
	Stalled      uint64 // connections closed because a request was not complete after RequestTimeout
	Malformed    uint64 // connections closed because of a malformed or truncated request
	Unread       uint64 // connections closed because the client did not read a reply within WriteTimeout
	WriteErrors  uint64 // replies that could not be written, for Unread or because the client had left
	AcceptErrors uint64 // temporary errors of a listener
	Panics       uint64 // handlers that panicked
}

type logged struct {
	at    time.Time // when the last message of a kind was logged
	count uint64    // value of the counter
}

// Stats returns the current counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Open = len(s.conns)
	return st
}

// event increments a counter in s.stats. It returns the logger for its message, which has the number of events since
// the last message, or a logger that discards it if that was less than a minute ago.
func (s *Server) event(counter *uint64) *slog.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	*counter++
	now, last := time.Now(), s.logged[counter]
	if s.Logger == nil || last.count > 0 && now.Sub(last.at) < time.Minute {
		return slog.New(slog.DiscardHandler)
	}
	s.logged[counter] = logged{now, *counter}
	return s.Logger.With("times", *counter-last.count)
}

// SetLimits replaces the limits. They apply to open connections from their next request on.
func (s *Server) SetLimits(l Limits) { s.limits.Store(l.withDefaults()) }

// prepare initializes a zero Server. s.mu is held.
func (s *Server) prepare() {
	if s.closed == nil {
		s.closed = make(chan struct{})
		s.started = time.Now().Add(-1)
		s.logged = map[*uint64]logged{}
		s.conns = map[*conn]struct{}{}
		s.listeners = map[net.Listener]struct{}{}
		s.limits.CompareAndSwap(nil, s.Limits.withDefaults())
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
}

// clock returns the time on the server's clock, which is never zero.
func (s *Server) clock() time.Duration { return time.Since(s.started) }

// at returns the time at which clock returns t.
func (s *Server) at(t time.Duration) time.Time { return s.started.Add(t) }

// Serve accepts connections on l until Shutdown or Close is called; then it returns ErrServerClosed. After a temporary
// error of l, such as a lack of file descriptors, it closes the connection that has been idle longest and tries again;
// any other error is returned. Serve closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.prepare()
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		_ = l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	var delay time.Duration
	for !s.stopped() {
		c, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			s.start(c, l.Addr().String())
			continue
		case s.stopped():
			return ErrServerClosed
		case !temporary(err):
			return err
		}
		s.event(&s.stats.AcceptErrors).Error("cannot accept connections", "listener", l.Addr().String(), "err", err)
		s.mu.Lock()
		s.evict()
		s.mu.Unlock()
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(delay):
		case <-s.closed:
		}
	}
	return ErrServerClosed
}

// temporary reports whether another accept may succeed after this error, accept(2).
func temporary(err error) bool {
	again := []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM,
		syscall.EPROTO, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN}
	return slices.ContainsFunc(again, func(e syscall.Errno) bool { return errors.Is(err, e) })
}

// start serves c. When the connection limit is reached, it first closes the connection that has been idle longest or,
// if none is idle, c.
func (s *Server) start(c net.Conn, listener string) {
	limit := s.limits.Load().MaxConnections
	s.mu.Lock()
	s.stats.Accepted++
	full := len(s.conns) >= limit
	served := !s.closing.Load()
	if served && full {
		served = s.evict()
	}
	if served {
		sc := &conn{server: s, net: c, listener: listener}
		sc.idleSince.Store(int64(s.clock()))
		s.conns[sc] = struct{}{}
		s.serving.Go(sc.serve)
	} else {
		_ = c.Close()
	}
	s.mu.Unlock()
	switch {
	case full && served:
		s.event(&s.stats.Evicted).Warn("connection limit reached; closing the connection that has been idle longest",
			"limit", limit)
	case full:
		s.event(&s.stats.Refused).Warn("connection limit reached and none is idle; closing the new connection", "limit",
			limit)
	}
}

// stopped reports whether Shutdown or Close was called. Call prepare first.
func (s *Server) stopped() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// evict closes the connection that has been idle longest. It reports whether there was one. s.mu is held.
func (s *Server) evict() bool {
	for {
		var longest *conn
		var since int64
		for c := range s.conns {
			if at := c.idleSince.Load(); at > 0 && (longest == nil || at < since) {
				longest, since = c, at
			}
		}
		if longest == nil {
			return false
		}
		if longest.idleSince.CompareAndSwap(since, evicted) { // otherwise a request has just arrived
			delete(s.conns, longest)
			_ = longest.net.Close()
			return true
		}
	}
}

// Shutdown stops accepting connections, answers the requests that have begun to arrive, closes each connection when it
// is idle, and returns when all are closed. When ctx ends first, the contexts of the handlers end too; replies that are
// ready within half a second are still sent. Then Shutdown closes the remaining connections and returns the error of
// ctx. It does not wait for a handler that ignores its context.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop(func(c *conn) { _ = c.net.SetReadDeadline(time.Now().Add(lastRead)) }) // wakes up the idle ones
	done := make(chan struct{})
	go func() { s.serving.Wait(); close(done) }()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	const grace = 500 * time.Millisecond
	select {
	case <-done:
	case <-time.After(grace):
		_ = s.Close()
	}
	return ctx.Err()
}

// Close closes all listeners and connections and ends the contexts of the handlers, without waiting. It returns nil.
func (s *Server) Close() error {
	s.stop(func(c *conn) { _ = c.net.Close() })
	s.cancel()
	return nil
}

// stop closes the listeners and calls each for every connection.
func (s *Server) stop(each func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepare()
	if !s.stopped() {
		close(s.closed)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	// Only now can connections close: a client that connects again must reach the next process.
	s.closing.Store(true)
	for c := range s.conns {
		each(c)
	}
}
