package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/unixsock"
)

// listener listens at one address, for Postfix, for the operator or for other mail servers. A unix socket that clients
// can no longer reach is made again.
type listener struct {
	setting, address string // setting has the address, or is the unit of systemd
	options          unixsock.Options
	passed           net.Listener // the listener from systemd; nil for all others
	// handle serves until its context ends or the listener breaks, and closes the listener. Its error is
	// socketmap.ErrServerClosed after the server was shut down.
	handle func(context.Context, net.Listener) error
	// postfix is set if Postfix needs it: the daemon does not start without it, and ends when it breaks. The others are
	// opened again until that succeeds.
	postfix  bool
	log      *slog.Logger
	interval time.Duration // the interval between checks of the path of a unix socket
	current  atomic.Pointer[opening]
}

// hint returns how to find out why a listener cannot be opened.
func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "create the directory, or change the path"
	case errors.Is(err, fs.ErrPermission):
		return "check the permissions of the directory; a port below 1024 needs root"
	}
	return "to see which process has the address: ss -lntxp; to see the addresses of this host: ip address"
}

// listen returns the listener, and opens it unless it is open.
func (ls *listener) listen(ctx context.Context) (l net.Listener, err error) {
	if open := ls.current.Load().Listener; open != nil {
		return open, nil
	}
	if l = ls.passed; l == nil {
		if l, err = unixsock.Listen(ctx, ls.address, ls.options); err != nil {
			return nil, err
		}
	}
	ls.current.Store(&opening{Listener: l})
	ls.log.Info("listening", "listener", addressOf(l), "setting", ls.setting)
	return l, nil
}

// addressOf returns the address of a listener as the settings have it.
func addressOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}

// openAll opens every listener. The error is that of a listener for Postfix: either all of these are open or none,
// because a daemon that answers on only some of them would hide the mistake. ctx is that of Run.
func (d *Daemon) openAll(ctx context.Context) error {
	loaded := d.loaded.Load()
	var all []*listener
	for _, passed := range d.options.Passed {
		if filepath.IsAbs(passed.Addr().String()) { // a unix socket, and not an abstract one
			passed = unixsock.Adopt(passed) // to notice when clients can no longer reach it
		}
		all = append(all, &listener{setting: "policyd.socket", address: addressOf(passed), passed: passed})
	}
	if len(all) == 0 {
		for _, address := range loaded.Server.Listen {
			all = append(all, &listener{setting: "server.listen", address: address, options: loaded.ListenOptions()})
		}
	}
	if len(all) == 0 {
		return loaded.Mistake("server.listen",
			`the list is empty, and systemd has passed no listener: write listen = ["127.0.0.1:2526"] under [server]`)
	}
	for _, ls := range all {
		ls.postfix, ls.handle = true, func(_ context.Context, l net.Listener) error { return d.server.Serve(l) }
	}
	serve := func(setting, address string, connections int, handler func(context.Context) http.Handler) {
		if strings.TrimPrefix(address, "unix:") != "" {
			all = append(all, &listener{setting: setting, address: address,
				handle: func(ctx context.Context, l net.Listener) error {
					return httpd.Run(ctx, l, handler(ctx), connections, d.log)
				}})
		}
	}
	serve("admin.socket", "unix:"+loaded.Admin.Socket, httpd.ForOperator, func(context.Context) http.Handler {
		return d.api()
	})
	serve("metrics.listen", loaded.Metrics.Listen, httpd.ForOperator, func(context.Context) http.Handler {
		return metrics.Handler(d.metrics, func() error { return d.readiness(ctx) }, d.log)
	})
	serve("http.listen", loaded.HTTP.Listen, admin.MaxQuestions, func(ctx context.Context) http.Handler {
		return admin.Questions(ctx, d.deliver, d.explain, d.log)
	})
	for i, ls := range all {
		ls.log, ls.interval = d.log, d.interval
		ls.current.Store(&opening{})
		l, err := ls.listen(ctx)
		switch {
		case err == nil:
			ls.address = addressOf(l) // port 0 is replaced by the chosen port
		case !ls.postfix:
			ls.failed(err) // run tries again
		default:
			for _, opened := range all[:i] {
				_ = opened.current.Load().Close()
			}
			return fmt.Errorf("cannot listen on %s: %w\n%s", ls.address, err, hint(err))
		}
	}
	d.listeners = all
	return nil
}

// Listening returns the addresses of the socketmap server; nil before all of them are open.
func (d *Daemon) Listening() []string {
	if !d.ready.Load() {
		return nil
	}
	addresses := []string{}
	for _, ls := range d.listeners {
		if ls.postfix {
			addresses = append(addresses, ls.address)
		}
	}
	return addresses
}

// readiness returns what lookups wait for. It is called when all listeners are open; running ends when the daemon
// begins to stop.
func (d *Daemon) readiness(running context.Context) error {
	if running.Err() != nil {
		return errors.New("policyd is stopping")
	}
	if st := d.stub.State(); st.Result == stub.Unknown && d.loaded.Load().Mode != "off" {
		return fmt.Errorf("the self-test of the resolver has no result: %s", st.Reason)
	}
	return nil
}
