package main

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// systemdListeners returns the listeners of policyd.socket that systemd will pass, as server.listen has them; none if
// systemd does not run or the unit is neither active nor enabled.
func systemdListeners(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "systemctl", "show", "--property=ActiveState,UnitFileState,Listen",
		"policyd.socket").Output() // where systemd does not run, there is no output
	if !strings.Contains(string(out), "ActiveState=active") && !strings.Contains(string(out), "UnitFileState=enabled") {
		return nil
	}
	return parseListen(string(out))
}

// parseListen reads lines such as "Listen=/run/sock (Stream)".
func parseListen(text string) (addresses []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "Listen=")
		if address, stream := strings.CutSuffix(line, " (Stream)"); stream {
			addresses = append(addresses, wordsIf(strings.HasPrefix(address, "/"), "unix:")+address)
		}
	}
	return addresses
}
