package doctor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
)

// checkDaemon examines the daemon, and reports its warnings and those of the settings.
func (e *exam) checkDaemon() {
	for _, p := range e.Settings.Mistakes {
		e.found("settings-invalid", p.String(), "policyd config check")
	}
	for _, w := range e.Settings.Warnings {
		e.found("settings-warning", w)
	}
	if e.daemonErr != nil {
		e.found("daemon-silent", e.daemonErr.Error(), "systemctl status policyd.service policyd.socket")
		return
	}
	e.found("daemon-running", "policyd "+e.daemon.Version+" is running, mode "+e.daemon.Settings.Mode)
	for _, w := range e.daemon.Warnings {
		if !slices.Contains(e.Settings.Warnings, w) {
			e.found("daemon-warning", w)
		}
	}
}

// askDaemon returns the status that the running daemon reports. After an error it has only the listeners of the
// settings; the daemon may have others, which systemd passed.
func (o Options) askDaemon(ctx context.Context) (st status.Status, err error) {
	socket := cmp.Or(o.Socket, o.Settings.Admin.Socket)
	if socket == "" {
		err = errors.New("there is no admin socket: admin.socket is empty")
	} else {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		st, err = admin.GetStatus.Ask(ctx, socket, struct{}{})
	}
	if err != nil {
		st = status.Status{Connections: status.Connections{Listeners: o.Settings.Server.Listen}}
	}
	return st, err
}

// setting is a change of a setting of policyd: a comment, because the operator must edit a file.
func (o Options) setting(table, line string) string {
	return "# in " + o.Settings.Path + ", [" + table + "]: " + line
}
