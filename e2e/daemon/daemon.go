// Package daemon runs servers for the commands of the lab: a built policyd, without root, in a directory of the caller.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// patience is for a busy machine.
const patience = 30 * time.Second

// Options are for Start.
type Options struct {
	// Binary is the built policyd.
	Binary string
	// Dir is an empty directory, which the caller removes. Its path must be short, because sockets are in it.
	Dir string
	// Settings is the text of the settings file. The word DIR in it stands for Dir, and DIR/overrides is an empty
	// overrides file, so that the one of this machine is not used.
	Settings string
	// Listen is one of the addresses in the settings that policyd listens on. DIR is replaced here too.
	Listen string
	// Process is how the process is started.
	Process Environment
}

// Environment is what a process inherits. The zero Environment adds nothing.
type Environment struct {
	// Variables are added to those of this process.
	Variables []string
	// OpenFiles is RLIMIT_NOFILE, soft and hard; 0 does not change it.
	OpenFiles int
	// Group is the directory of the control group that it starts in; "" does not change it.
	Group string
	// Listeners are passed as systemd does, sd_listen_fds(3).
	Listeners []*os.File
}

// Start starts policyd and returns once it accepts connections. Stop it.
func Start(ctx context.Context, o Options) (*Process, error) {
	inDir := strings.NewReplacer("DIR", o.Dir)
	config := filepath.Join(o.Dir, "policyd.toml")
	if err := os.WriteFile(config, []byte(inDir.Replace(o.Settings)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "overrides"), nil, 0o600); err != nil {
		return nil, err
	}
	return Run(ctx, Command{
		Path: o.Binary, Arguments: []string{"serve", "--config", config},
		Output: filepath.Join(o.Dir, "log"), Address: inDir.Replace(o.Listen), Config: config, Environment: o.Process,
	})
}

// Command is a server that is started by Run.
type Command struct {
	Path      string
	Arguments []string
	// Output is the file that its output is appended to.
	Output string
	// Address is where it listens, in the form that socketmap.Dial takes.
	Address string
	// Config is the path of the settings file of a policyd.
	Config string
	Environment
}

// build makes the command. A shell sets LISTEN_PID, the limit and the group for itself, and then becomes the program.
func (c Command) build() *exec.Cmd {
	path, arguments := c.Path, c.Arguments
	script := ""
	if len(c.Listeners) > 0 {
		script = "export LISTEN_PID=$$ LISTEN_FDS=" + strconv.Itoa(len(c.Listeners)) + "; "
	}
	if c.OpenFiles > 0 {
		script += "ulimit -n " + strconv.Itoa(c.OpenFiles) + "; "
	}
	if c.Group != "" {
		script += "echo $$ >'" + filepath.Join(c.Group, "cgroup.procs") + "'; "
	}
	if script != "" {
		path, arguments = "/bin/sh", append([]string{"-c", script + `exec "$@"`, "sh", path}, arguments...)
	}
	cmd := exec.Command(path, arguments...)
	cmd.Env = append(os.Environ(), c.Variables...)
	cmd.ExtraFiles = c.Listeners
	return cmd
}

// Process is a running server.
type Process struct {
	Command
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	err   error         // of the process; to be read when it is gone
}

// Run starts a server and returns once it accepts connections. Stop it.
func Run(ctx context.Context, c Command) (*Process, error) {
	p := &Process{Command: c, ended: make(chan struct{})}
	output, err := os.OpenFile(c.Output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	// It does not end with ctx: Stop ends it and lets it drain.
	p.cmd = c.build()
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: make build first", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// ready waits until the server accepts connections.
func (p *Process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		c, err := socketmap.Dial(ctx, p.Address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-again.C:
		case <-p.ended:
			return fmt.Errorf("%s ended immediately:\n%s", p.Path, p.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s:\n%s", p.Path, p.Address, p.Log())
		}
	}
}

// Run runs a command of policyd with the settings of this one, and returns what it prints.
func (p *Process) Run(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, p.Path, append(args, "--config", p.Config)...).CombinedOutput()
}

// Signal sends a signal to this process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends it with SIGKILL.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	return err
}

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// PID is the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the output of the server.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.Output)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop sends SIGTERM to this process and waits for its end. The error is its exit status, or that it had to be killed.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-late.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end after SIGTERM", p.Path)
	}
}
