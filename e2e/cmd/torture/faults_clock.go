package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

func clockFaults() []trial {
	return []trial{{
		fault: "clock: jumps one hour either way, one day forward", busy: true, play: clockJumps,
		holds: "cached records age by the time that passes and not by the clock; no policy is lost; no verdict about port 26 is believed for longer; the log says that it was set. Played in the packages, as the clock of a machine is everybody's",
	}}
}

// clockJumps runs the tests of the packages in which the clock jumps.
func clockJumps(ctx context.Context, _ *scene) (string, error) {
	packages := []string{"./internal/stub", "./internal/dnscache", "./internal/mtasts", "./internal/probe", "./cmd/policyd/internal/daemon"}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-v", "-run", "Clock"}, packages...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w:\n%s", err, tail(string(out)))
	}
	passed := strings.Count(string(out), "\n--- PASS") + strings.Count(string(out), "\n    --- PASS")
	if passed < len(packages) {
		return "", fmt.Errorf("only %d tests were run", passed)
	}
	return fmt.Sprintf("%d tests passed", passed), nil
}
