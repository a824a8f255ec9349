package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/policyd/policyd/internal/unixsock"
)

// lookAtSockets is how often the paths of the unix sockets are looked at. A path that leads elsewhere twice in a row
// is repaired: while systemd restarts its units, it may do so for a moment.
const lookAtSockets = 5 * time.Second

// ErrLostSocket is the error of Run when a unix socket of systemd can no longer be reached at its path. Only systemd
// can make it again: exit with the status for which policyd.service restarts policyd.socket.
var ErrLostSocket = errors.New("a socket of systemd can no longer be reached")

// whileReachable returns the error when clients can no longer reach a listener at its path, and that of ctx when ctx
// ends before.
func whileReachable(ctx context.Context, l *unixsock.Listener, interval time.Duration) error {
	lost := false
	return every(ctx, interval, func() error {
		err := l.Reachable()
		if err != nil && lost {
			return err
		}
		lost = err != nil
		return nil
	})
}

// watchSockets repairs unix sockets whose path no longer leads to them, until ctx ends. A socket of its own is made
// again and served; for one of systemd it returns ErrLostSocket if a service manager can restart the process.
func (d *Daemon) watchSockets(ctx context.Context, serve func(net.Listener)) error {
	lost := map[net.Listener]bool{}
	return every(ctx, d.interval, func() error {
		for _, l := range d.listening.list() {
			u, ok := l.(*unixsock.Listener)
			if !ok {
				continue
			}
			err := u.Reachable()
			again := lost[l]
			delete(lost, l)
			switch {
			case err == nil:
			case !again:
				lost[l] = true
				d.log.Warn("clients cannot reach a unix socket", "listener", addressOf(l), "err", err)
			case len(d.options.Passed) == 0:
				d.replace(ctx, l, serve)
			case managed():
				return fmt.Errorf("%w: %w", ErrLostSocket, err)
			}
		}
		return nil
	})
}

// replace makes a unix socket again and serves it in place of old.
func (d *Daemon) replace(ctx context.Context, old net.Listener, serve func(net.Listener)) {
	l, err := unixsock.Listen(ctx, addressOf(old), d.loaded.Load().ListenOptions())
	if err != nil {
		d.log.Warn("cannot make the unix socket again; trying again", "listener", addressOf(old), "err", err)
		return
	}
	d.listening.remove(old)
	_ = old.Close() // its socket has gone
	serve(l)
}

// socketWarnings returns a sentence for each listener that does not work as the settings have it.
func (d *Daemon) socketWarnings() []string {
	var w []string
	for _, l := range d.listening.list() {
		if u, ok := l.(*unixsock.Listener); ok {
			if err := u.Reachable(); err != nil {
				w = append(w, fmt.Sprintf("Postfix cannot reach policyd at unix:%s: %v; restart policyd.socket and policyd.service", l.Addr(), err))
			}
		}
	}
	for _, o := range d.operator {
		if err := o.trouble(); err != nil {
			w = append(w, fmt.Sprintf("%s: cannot listen on %s, trying again: %v", o.name, o.address, err))
		}
	}
	return append(w, d.listenWarnings()...)
}

// managed reports whether a service manager started the process, and can restart it.
func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// lostSocket returns ErrLostSocket if the next process would get a listener from systemd that cannot be reached.
func (d *Daemon) lostSocket() error {
	if len(d.options.Passed) == 0 || !managed() {
		return nil
	}
	for _, l := range d.listening.list() {
		if u, ok := l.(*unixsock.Listener); ok {
			if err := u.Reachable(); err != nil {
				return fmt.Errorf("%w: %w", ErrLostSocket, err)
			}
		}
	}
	return nil
}
