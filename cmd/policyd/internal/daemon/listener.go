package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/unixsock"
)

const (
	// lookAtSockets is how often the paths of the unix sockets are looked at. A path that leads elsewhere twice in a
	// row is repaired: while systemd restarts its units, it may do so for a moment.
	lookAtSockets = 5 * time.Second

	// remedy says how to find out what is in the way of a listener.
	remedy = "to see which process has the address: ss -lntxp; to see the addresses of this host: ip address"

	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

var (
	// ErrLostSocket is the error of Run when a unix socket of systemd can no longer be reached at its path. Only
	// systemd can make it again: exit with the status for which policyd.service restarts policyd.socket.
	ErrLostSocket = errors.New("a socket of systemd can no longer be reached")

	errUnreachable = errors.New("clients cannot reach the socket")
)

// listener listens at one address, for Postfix, for the operator or for other mail servers. A unix socket that clients
// can no longer reach is made again.
type listener struct {
	// setting is the setting that has the address, or the unit of systemd.
	setting, address string
	options          unixsock.Options
	// passed is the listener that systemd made; nil for the others.
	passed net.Listener
	// handle serves until its context ends or the listener breaks, and closes the listener. It returns nil after the
	// server was shut down.
	handle func(context.Context, net.Listener) error
	// postfix is set if Postfix needs it: the daemon does not start without it, and ends when it breaks. The others are
	// opened again until that succeeds.
	postfix  bool
	log      *slog.Logger
	interval time.Duration // between two looks at the path of a unix socket

	now atomic.Pointer[opening] // nil at first
}

// opening is a listener that is open, or why it is not.
type opening struct {
	net.Listener
	err error
}

// listen returns the listener, and opens it unless it is open.
func (o *listener) listen(ctx context.Context) (net.Listener, error) {
	l, _ := o.state()
	switch {
	case l != nil:
		return l, nil
	case o.passed == nil:
		var err error
		if l, err = unixsock.Listen(ctx, o.address, o.options); err != nil {
			return nil, err
		}
	case o.passed.Addr().Network() == "unix":
		l = unixsock.Adopt(o.passed) // so that it is noticed when it is no longer reachable
	default:
		l = o.passed
	}
	o.now.Store(&opening{Listener: l})
	o.log.Info("listening", "listener", addressOf(l), "setting", o.setting)
	return l, nil
}

// state returns the listener if it is open, and otherwise why it is not.
func (o *listener) state() (net.Listener, error) {
	now := cmp.Or(o.now.Load(), &opening{})
	return now.Listener, now.err
}

// failed keeps why it is not open, and logs a reason that is new.
func (o *listener) failed(err error) {
	if _, before := o.state(); before == nil || before.Error() != err.Error() {
		o.log.Warn("cannot listen; trying again", "setting", o.setting, "listener", o.address,
			"err", err, "hint", remedy)
	}
	o.now.Store(&opening{err: err})
}

// trouble returns why clients cannot connect, nil while they can.
func (o *listener) trouble() error {
	l, err := o.state()
	if u, ok := l.(*unixsock.Listener); ok {
		return u.Reachable()
	}
	return err
}

// run serves until ctx ends.
func (o *listener) run(ctx context.Context) error {
	for wait := firstRetry; ctx.Err() == nil; {
		l, err := o.listen(ctx)
		if err == nil {
			wait = firstRetry
			err = o.serve(ctx, l)
			lost := errors.Is(err, errUnreachable)
			switch {
			case err == nil || ctx.Err() != nil:
				return err
			case lost && o.passed != nil:
				return fmt.Errorf("%w: %w", ErrLostSocket, err)
			case lost:
				o.now.Store(&opening{err: err})
				continue // without a pause: mail waits until the socket is there again
			case o.postfix:
				return fmt.Errorf("the listener at %s failed: %w", o.address, err)
			}
		}
		o.failed(err)
		pause(ctx, wait)
		wait = min(2*wait, lastRetry)
	}
	return ctx.Err()
}

// serve serves l until ctx ends, l breaks, or clients can no longer reach it.
func (o *listener) serve(ctx context.Context, l net.Listener) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	group.Go(func() error {
		defer end()
		return o.handle(ctx, l)
	})
	if u, ok := l.(*unixsock.Listener); ok {
		group.Go(func() error {
			if err := o.watch(ctx, u); ctx.Err() == nil {
				return fmt.Errorf("%w: %w", errUnreachable, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// watch returns the error when clients can no longer reach u at its path, or when ctx ends. It leaves a socket of
// systemd as it is if no service manager can restart the process.
func (o *listener) watch(ctx context.Context, u *unixsock.Listener) error {
	lost := false
	return every(ctx, o.interval, func() error {
		err := u.Reachable()
		switch {
		case err == nil:
			lost = false
		case !lost:
			lost = true
			o.log.Warn("clients cannot reach a unix socket", "listener", addressOf(u), "err", err)
		case o.passed == nil || managed():
			return err
		}
		return nil
	})
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// managed reports whether a service manager started the process, and can restart it.
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// addressOf returns the address of a listener as the settings have it.
func addressOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}
