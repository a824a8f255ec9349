package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

// openAll opens every listener. The error is that of a listener for Postfix: all of these are open, or none, because a
// daemon that answers on some of them only would hide the mistake. ctx is that of Run.
func (d *Daemon) openAll(ctx context.Context) error {
	l := d.loaded.Load()
	if len(d.options.Passed) == 0 && len(l.Server.Listen) == 0 {
		return l.Mistake("server.listen",
			`the list is empty, and systemd has passed no listener: write listen = ["127.0.0.1:2526"] under [server]`)
	}
	var all []*listener
	add := func(o *listener) *listener {
		o.log, o.interval = d.log, d.interval
		all = append(all, o)
		return o
	}
	for _, passed := range d.options.Passed {
		o := add(&listener{setting: "policyd.socket", address: addressOf(passed), handle: d.answer, postfix: true,
			passed: true})
		if passed.Addr().Network() == "unix" {
			passed = unixsock.Adopt(passed) // so that it is noticed when it is no longer reachable
		}
		o.use(passed)
	}
	if len(d.options.Passed) == 0 {
		for _, address := range l.Server.Listen {
			o := add(&listener{setting: "server.listen", address: address, options: l.ListenOptions(), handle: d.answer,
				postfix: true})
			if err := o.listen(ctx); err != nil {
				for _, o := range all[:len(all)-1] {
					_ = o.open.Close()
				}
				return fmt.Errorf("cannot listen on %s: %w%s", address, err, remedy(address, err))
			}
		}
	}
	s := admin.NewServer(d.Admin(), d.log)
	if path := l.Admin.Socket; path != "" {
		add(&listener{setting: "admin.socket", address: "unix:" + path, options: unixsock.Options{Mode: 0o660},
			handle: s.Run})
	}
	if address := l.Metrics.Listen; address != "" {
		m := &metrics.Server{Gatherer: d.metrics, Log: d.log,
			Ready: func() error { return d.readiness(ctx) }}
		add(&listener{setting: "metrics.listen", address: address, handle: m.Run})
	}
	if address := l.HTTP.Listen; address != "" {
		add(&listener{setting: "http.listen", address: address, handle: s.RunQuestions})
	}
	for _, o := range all {
		if o.postfix {
			continue
		}
		if err := o.listen(ctx); err != nil {
			o.failed(err) // Postfix does not need it, and run tries again
		}
	}
	d.listeners = all
	return nil
}

// answer answers lookups until the server is shut down.
func (d *Daemon) answer(_ context.Context, l net.Listener) error {
	if err := d.server.Serve(l); !errors.Is(err, socketmap.ErrServerClosed) {
		return err
	}
	return nil
}

// Listening returns the addresses of the socketmap server; nil before all of them are open.
func (d *Daemon) Listening() []string {
	if !d.ready.Load() {
		return nil
	}
	addresses := []string{}
	for _, o := range d.listeners {
		if o.postfix {
			addresses = append(addresses, o.shown())
		}
	}
	return addresses
}

// listenWarnings returns a warning if listeners from systemd replace what the settings file names.
func (d *Daemon) listenWarnings() []string {
	var passed []string
	for _, l := range d.options.Passed {
		passed = append(passed, addressOf(l))
	}
	return d.loaded.Load().UnusedListen(passed)
}

// socketWarnings returns a sentence for each listener that does not work as the settings have it.
func (d *Daemon) socketWarnings() []string {
	var w []string
	for _, o := range d.listeners {
		switch err := o.trouble(); {
		case err == nil:
		case o.postfix:
			w = append(
				w, fmt.Sprintf("Postfix cannot reach policyd at %s: %v; restart policyd.socket and policyd.service",
					o.address, err))
		default:
			w = append(w, fmt.Sprintf("%s: cannot listen on %s, trying again: %v", o.setting, o.address, err))
		}
	}
	return append(w, d.listenWarnings()...)
}

// lostSocket returns ErrLostSocket if the next process would get a listener from systemd that cannot be reached.
func (d *Daemon) lostSocket() error {
	for _, o := range d.listeners {
		if o.passed && managed() {
			if err := o.trouble(); err != nil {
				return fmt.Errorf("%w: %w", ErrLostSocket, err)
			}
		}
	}
	return nil
}
