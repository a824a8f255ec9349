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
	state := string(out)
	if !strings.Contains(state, "ActiveState=active") && !strings.Contains(state, "UnitFileState=enabled") {
		return nil
	}
	return parseListen(state)
}

// parseListen reads lines such as "Listen=/run/sock (Stream)".
func parseListen(text string) []string {
	var addresses []string
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "Listen=")
		if address, stream := strings.CutSuffix(line, " (Stream)"); stream {
			addresses = append(addresses, wordsIf(strings.HasPrefix(address, "/"), "unix:")+address)
		}
	}
	return addresses
}
