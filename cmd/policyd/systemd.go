package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"time"
)

// systemdListeners returns the listeners of policyd.socket that systemd will pass, as server.listen has them; none if
// systemd does not run or the unit is neither active nor enabled.
func systemdListeners(ctx context.Context) []string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil
	}
	const timeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	const unit = "policyd.socket"
	if exec.CommandContext(ctx, "systemctl", "--quiet", "is-active", unit).Run() != nil &&
		exec.CommandContext(ctx, "systemctl", "--quiet", "is-enabled", unit).Run() != nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--value", "--property=Listen", unit).Output()
	if err != nil {
		return nil
	}
	return parseListen(string(out))
}

// parseListen reads lines such as "/run/sock (Stream)".
func parseListen(text string) []string {
	var addresses []string
	for line := range strings.Lines(text) {
		address, stream := strings.CutSuffix(strings.TrimSpace(line), " (Stream)")
		if !stream {
			continue
		}
		if strings.HasPrefix(address, "/") {
			address = "unix:" + address
		}
		addresses = append(addresses, address)
	}
	return addresses
}
