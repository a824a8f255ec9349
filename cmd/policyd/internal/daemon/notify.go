package daemon

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/policyd/policyd/socketmap"
)

// notify sends the state to the service manager (sd_notify(3)). A manager that hangs gets it later, and in order.
func (d *Daemon) notify(state string) {
	ctx, cancel := context.WithTimeout(context.Background(), afterDrain/3) // stop needs the rest
	defer cancel()
	Await(ctx, func() {
		d.notifying <- struct{}{}
		defer func() { <-d.notifying }()
		if _, err := daemon.SdNotify(false, state); err != nil {
			d.log.Warn("cannot notify the service manager", "err", err)
		}
	})
}

// notifyReady sends the line that systemctl status shows.
func (d *Daemon) notifyReady() {
	status := "\nSTATUS=Answering, mode " + d.loaded.Load().Mode
	if last := d.last.Load(); last != nil && !last.OK {
		status += "; the last reload failed, keeping the previous settings"
	}
	d.notify(daemon.SdNotifyReady + status)
}

// watchdog notifies the service manager twice per watchdog interval, as long as the daemon answers a lookup. The
// service manager restarts a daemon that does not.
func (d *Daemon) watchdog(ctx context.Context) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("no watchdog: the service manager's interval cannot be read", "err", err)
	}
	if interval <= 0 {
		return nil
	}
	return every(ctx, interval/2, func() error {
		if d.works(ctx, interval/2) {
			d.notify(daemon.SdNotifyWatchdog)
		} else {
			d.log.Error("daemon does not answer its own lookup; not notifying the watchdog")
		}
		return nil
	})
}

// works reports whether the daemon answers a lookup that needs no query.
func (d *Daemon) works(ctx context.Context, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var reply socketmap.Reply
	return Await(ctx, func() {
		reply = d.server.Handler.ServeSocketmap(ctx, socketmap.Request{Map: "tls-policy", Key: "*"})
	}) && reply.Status == socketmap.StatusNotFound
}
