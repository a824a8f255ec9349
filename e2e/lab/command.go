package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// Ran is a command of policyd that has ended.
type Ran struct {
	Output []byte
	Exit   int
}

// Command runs a command of policyd with the settings of the lab, and waits for its end.
func (p *Policyd) Command(ctx context.Context, args ...string) (Ran, error) {
	cmd := exec.CommandContext(ctx, p.binary, append([]string{"--config", p.Settings()}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	output, err := cmd.Output()
	failed, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return Ran{Output: output}, nil
	case ended && failed.Exited():
		return Ran{Output: output, Exit: failed.ExitCode()}, nil
	}
	return Ran{}, fmt.Errorf("lab: policyd %v: %w: %s", args, err, &said)
}
