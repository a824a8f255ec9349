package socketmap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("socketmap: server closed")

// Limits are what a server allows its clients; a zero field means the default.
type Limits struct {
	// MaxConnections is how many connections are open at most, 4096 by default. For one more, the
	// connection that has been idle for longest is closed.
	MaxConnections int
	// IdleTimeout is how long a connection may be silent between requests, 2 minutes by default.
	IdleTimeout time.Duration
	// RequestTimeout is how long a request may take to arrive after its first byte, 10 s by default,
	// and never longer than IdleTimeout.
	RequestTimeout time.Duration
	// WriteTimeout is how long a client may take to accept a reply, 10 s by default.
	WriteTimeout time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.MaxConnections <= 0 {
		l.MaxConnections = 4096
	}
	if l.IdleTimeout <= 0 {
		l.IdleTimeout = 2 * time.Minute
	}
	if l.RequestTimeout <= 0 {
		l.RequestTimeout = 10 * time.Second
	}
	l.RequestTimeout = min(l.RequestTimeout, l.IdleTimeout)
	if l.WriteTimeout <= 0 {
		l.WriteTimeout = 10 * time.Second
	}
	return l
}

// Server serves lookups on any number of listeners. Handler and Logger must not change once Serve has
// been called; limits are changed with SetLimits.
type Server struct {
	Handler Handler
	// Logger gets what goes wrong in the server itself; nil: nothing is logged.
	Logger *slog.Logger

	limits   atomic.Pointer[Limits]
	stats    counters
	troubles troubles

	mu        sync.Mutex
	conns     map[*conn]struct{}
	listeners map[net.Listener]struct{}
	started   time.Time       // where the server's clock begins
	closing   chan struct{}   // closed by Shutdown and Close; made on first use
	ctx       context.Context // of the handlers
	cancel    context.CancelFunc
	closed    atomic.Bool    // by Close: nothing is sent any more
	active    sync.WaitGroup // connections
}

// SetLimits puts limits in force, for open connections from their next request on.
func (s *Server) SetLimits(l Limits) {
	l = l.withDefaults()
	s.limits.Store(&l)
}

func (s *Server) limit() *Limits {
	if l := s.limits.Load(); l != nil {
		return l
	}
	l := Limits{}.withDefaults()
	return &l
}

// prepare makes what the zero Server lacks; s.mu is held.
func (s *Server) prepare() {
	if s.closing == nil {
		s.closing, s.started = make(chan struct{}), time.Now()
		s.conns, s.listeners = map[*conn]struct{}{}, map[net.Listener]struct{}{}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		if s.limits.Load() == nil {
			s.SetLimits(Limits{})
		}
	}
}

// clock tells the time since the server was started; no two moments of a connection's life are at zero. To look at it costs
// half of a time.Now.
func (s *Server) clock() time.Duration { return time.Since(s.started) + 1 }

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Serve accepts connections on l until Shutdown or Close, then returns ErrServerClosed. A lack of file
// descriptors is waited out; any other error of l is returned. Serve closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.prepare()
	if s.isClosing() {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		_ = l.Close()
	}()
	var wait time.Duration
	address := l.Addr().String()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			s.start(c, address)
		case s.isClosing():
			return ErrServerClosed
		case !passing(err):
			return err
		default:
			// At the limit accepts succeed and fail in turn: that is one trouble, and not a line for each.
			if times, yes := s.troubles.accept.due(); yes {
				s.logger().Error("cannot accept connections: raise the limit of open files", "listener", address, "err", err, "times", times)
			}
			s.stats.acceptErrors.Add(1)
			s.evict()
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			if !s.pause(wait) {
				return ErrServerClosed
			}
		}
	}
}

// passing says of an accept error that the next accept may succeed, accept(2).
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EAGAIN, syscall.EPERM, syscall.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pause waits; it returns false when the server is closing.
func (s *Server) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closing:
		return false
	}
}

// start serves c, which has come to that listener, at once, in place of the connection that has been idle for longest if
// there are too many.
func (s *Server) start(c net.Conn, listener string) {
	nth := s.stats.accepted.Add(1)
	if s.full() {
		s.crowded()
		if !s.evict() {
			s.stats.refused.Add(1)
			_ = c.Close()
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		_ = c.Close()
		return
	}
	sc := &conn{server: s, net: c, listener: listener, replies: s.stats.of(nth)}
	sc.rest(s.clock())
	s.conns[sc] = struct{}{}
	s.active.Go(sc.serve)
}

// full says whether there are as many connections as may be. Those that their clients have closed stop counting when
// their goroutines have run, so these get a chance first: nobody is closed for the sake of a connection that is over.
func (s *Server) full() bool {
	const chances = 4
	for range chances {
		s.mu.Lock()
		open := len(s.conns)
		s.mu.Unlock()
		if open < s.limit().MaxConnections {
			return false
		}
		runtime.Gosched()
	}
	return true
}

// evict closes the connection that has been idle for longest. It returns false if none is idle. Under a flood a request
// may have arrived that nobody has come to read yet: some such connections are spared.
func (s *Server) evict() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	const spared = 16
	for passed := map[*conn]bool{}; ; {
		var longest *conn
		var since int64
		for c := range s.conns {
			if at := c.state.Load(); at > working && (longest == nil || at>>1 < since>>1) && !passed[c] {
				longest, since = c, at
			}
		}
		if longest == nil {
			return false
		}
		if len(passed) < spared && longest.pending() {
			passed[longest] = true
			continue
		}
		if longest.state.CompareAndSwap(since, ended) {
			s.stats.evicted.Add(1)
			delete(s.conns, longest)
			_ = longest.net.Close()
			return true
		}
	}
}

// Shutdown stops accepting, closes idle connections at once, has the requests that have begun to arrive
// answered, and returns when all connections are closed. When ctx ends before, the contexts of the handlers end, and what they
// say within half a second is sent; then it closes what is left and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	for c := range s.conns {
		c.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.active.Wait(); close(done) }()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
		s.cancel()
		const lastWords = 500 * time.Millisecond
		select {
		case <-done:
		case <-time.After(lastWords):
			_ = s.Close()
			<-done
		}
		return ctx.Err()
	}
}

// Close stops accepting and closes all connections; handlers see their context end. It does not wait for them: their
// connections are closed when they return.
func (s *Server) Close() error {
	s.stop()
	s.closed.Store(true)
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		s.active.Go(func() { _ = c.net.Close() }) // which waits for a handler that runs, and that may need s.mu
	}
	return nil
}

// stop closes the listeners.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepare()
	if !s.isClosing() {
		close(s.closing)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.New(slog.DiscardHandler)
}
