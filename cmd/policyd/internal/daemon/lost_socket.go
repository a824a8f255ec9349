package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/unixsock"
)

// socketInterval is how often the paths of the unix sockets are examined. A socket is repaired only if its path leads
// elsewhere twice in a row, because it may do so for a moment while systemd restarts its units.
const socketInterval = 5 * time.Second

// ErrLostSocket is the error of Run when clients can no longer reach a unix socket of systemd at its path. Only systemd
// can make it again: exit with the status for which policyd.service restarts policyd.socket.
var ErrLostSocket = errors.New("clients can no longer reach the socket")

// serve serves l until ctx ends, l breaks, or clients can no longer reach it at its path.
func (ls *listener) serve(ctx context.Context, l net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	group.Go(func() error { return ls.handle(ctx, l) })
	group.Go(func() error { return ls.watch(ctx) })
	return group.Wait()
}

// trouble returns why clients cannot connect, or nil while they can.
func (ls *listener) trouble() error {
	current := ls.current.Load()
	if u, ok := current.Listener.(*unixsock.Listener); ok {
		return u.Reachable()
	}
	return current.err
}

// watch returns ErrLostSocket when clients can no longer connect, and otherwise the error of ctx. It leaves a socket of
// systemd as it is if no service manager can restart the process.
func (ls *listener) watch(ctx context.Context) error {
	before := false
	return every(ctx, ls.interval, func() error {
		err := ls.trouble()
		switch {
		case err != nil && !before:
			ls.log.Warn("clients cannot reach a unix socket", "listener", ls.address, "err", err)
		case err != nil && (ls.passed == nil || managed()):
			return fmt.Errorf("%w: %w", ErrLostSocket, err)
		}
		before = err != nil
		return nil
	})
}

// managed reports whether a service manager started the process, and can restart it.
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// lostSocket returns ErrLostSocket if the next process would get a listener from systemd that cannot be reached.
func (d *Daemon) lostSocket() error {
	for _, ls := range d.listeners {
		if ls.passed != nil && managed() {
			if err := ls.trouble(); err != nil {
				return fmt.Errorf("%w: %w", ErrLostSocket, err)
			}
		}
	}
	return nil
}

// socketWarnings returns a sentence for each listener that clients cannot connect to.
func (d *Daemon) socketWarnings() (w []string) {
	for _, ls := range d.listeners {
		switch err := ls.trouble(); {
		case err == nil:
		case ls.postfix:
			w = append(w, fmt.Sprintf("Postfix cannot reach policyd at %s: %v; restart policyd.socket and "+
				"policyd.service", ls.address, err))
		default:
			w = append(w, fmt.Sprintf("%s: cannot listen on %s, trying again: %v", ls.setting, ls.address, err))
		}
	}
	return w
}
