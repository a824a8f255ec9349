package main

import (
	"errors"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/policyd/policyd/cmd/policyd/internal/daemon"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// While the settings are wrong, systemd starts the service again for every connection that waits at its sockets. Each
// start takes settingsWait, so that the trigger limit of policyd.socket is never reached, which would remove the
// sockets.
const (
	settingsWait  = 3 * time.Second
	settingsRetry = 250 * time.Millisecond
)

// newDaemon makes the daemon. If systemd has passed listeners, it waits for a while for wrong settings to be corrected.
func newDaemon(o daemon.Options) (d *daemon.Daemon, err error) {
	for began := time.Now(); ; {
		d, err = daemon.New(o)
		wrong, ok := errors.AsType[*settings.Error](err)
		if !ok || len(o.Passed) == 0 || time.Since(began) >= settingsWait {
			return d, err
		}
		// An error means that there is no service manager to show it.
		mistakes := strings.ReplaceAll(wrong.Error(), "\n", "; ")
		_, _ = sd.SdNotify(false, "STATUS=Not answering, mail waits. Settings: "+mistakes)
		<-time.After(settingsRetry)
	}
}
