package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
	"github.com/policyd/policyd/cmd/policyd/internal/metrics"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/socketmap"
)

// openAll opens every listener. The error is that of a listener for Postfix: all of these are open, or none, because a
// daemon that answers on some of them only would hide the mistake. ctx is that of Run.
func (d *Daemon) openAll(ctx context.Context) error {
	l := d.loaded.Load()
	add := func(o *listener) {
		o.log, o.interval = d.log, d.interval
		o.now.Store(&opening{})
		d.listeners = append(d.listeners, o)
	}
	for _, passed := range d.options.Passed {
		add(&listener{
			setting: "policyd.socket", address: addressOf(passed), passed: passed, handle: d.answer, postfix: true,
		})
	}
	if len(d.options.Passed) == 0 {
		for _, address := range l.Server.Listen {
			add(&listener{
				setting: "server.listen", address: address, options: l.ListenOptions(), handle: d.answer, postfix: true,
			})
		}
	}
	if len(d.listeners) == 0 {
		return l.Mistake("server.listen",
			`the list is empty, and systemd has passed no listener: write listen = ["127.0.0.1:2526"] under [server]`)
	}
	serve := func(setting, address string, connections int, handler func(context.Context) http.Handler) {
		add(&listener{setting: setting, address: address, handle: func(ctx context.Context, l net.Listener) error {
			return httpd.Run(ctx, l, handler(ctx), connections, d.log)
		}})
	}
	if path := l.Admin.Socket; path != "" {
		serve("admin.socket", "unix:"+path, httpd.ForOperator, func(context.Context) http.Handler { return d.api() })
	}
	if address := l.Metrics.Listen; address != "" {
		serve("metrics.listen", address, httpd.ForOperator, func(context.Context) http.Handler {
			return metrics.Handler(d.metrics, func() error { return d.readiness(ctx) }, d.log)
		})
	}
	if address := l.HTTP.Listen; address != "" {
		serve("http.listen", address, admin.MaxQuestions, d.questions().Once)
	}
	for i, o := range d.listeners {
		_, err := o.listen(ctx)
		switch {
		case err == nil:
		case !o.postfix:
			o.failed(err) // run tries again
		default:
			for _, o := range d.listeners[:i] {
				_ = o.now.Load().Close()
			}
			return fmt.Errorf("cannot listen on %s: %w\n%s", o.address, err, remedy)
		}
	}
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
			address := o.address
			if l := o.now.Load().Listener; l != nil {
				address = addressOf(l) // with the port that was chosen for port 0
			}
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// socketWarnings returns a sentence for each listener that does not work as the settings have it.
func (d *Daemon) socketWarnings() (w []string) {
	for _, o := range d.listeners {
		switch err := o.trouble(); {
		case err == nil:
		case o.postfix:
			w = append(w, fmt.Sprintf("Postfix cannot reach policyd at %s: %v; restart policyd.socket and "+
				"policyd.service", o.address, err))
		default:
			w = append(w, fmt.Sprintf("%s: cannot listen on %s, trying again: %v", o.setting, o.address, err))
		}
	}
	return w
}

// lostSocket returns ErrLostSocket if the next process would get a listener from systemd that cannot be reached.
func (d *Daemon) lostSocket() error {
	for _, o := range d.listeners {
		if o.passed != nil && managed() {
			if err := o.trouble(); err != nil {
				return fmt.Errorf("%w: %w", ErrLostSocket, err)
			}
		}
	}
	return nil
}

// readiness returns what lookups wait for. It is asked when all listeners are open; running ends when the daemon starts
// to stop.
func (d *Daemon) readiness(running context.Context) error {
	if running.Err() != nil {
		return errors.New("policyd is stopping")
	}
	if st := d.stub.State(); st.Result == stub.Unknown && !off(d.loaded.Load()) {
		return fmt.Errorf("the self-test of the resolver has no result: %s", st.Reason)
	}
	return nil
}
