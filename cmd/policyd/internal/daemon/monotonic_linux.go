package daemon

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonic is the time that goes with RELOADING=1, sd_notify(3): by it Type=notify-reload distinguishes this
// reload from another. The function of go-systemd for it is not in all versions that distributions have.
func monotonic() string {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return ""
	}
	return "\nMONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/1000, 10)
}
