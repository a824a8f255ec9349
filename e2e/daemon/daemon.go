// Package daemon starts programs for the lab, such as a built policyd, keeps their output, and ends them.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// Timeout bounds the start and the end of a program. A busy machine may need most of it.
const Timeout = time.Minute

// Command is a program to start, and what the process inherits.
type Command struct {
	Path      string
	Arguments []string
	// Root is another root directory of the process, "" for none; there it has no environment except PATH.
	Root string
	// Shell are commands of sh(1), each with a semicolon, that change what the program inherits.
	Shell string
	// Listeners are passed as systemd does, see sd_listen_fds(3).
	Listeners []*os.File
	// Address is where a socketmap server listens, in the form that socketmap.Dial takes.
	Address string
	// Config is the path of the settings file of a policyd.
	Config string
	// Log receives the output. Start makes one if it is nil; a process that replaces another one continues its log.
	Log *Log
}

// Process is a program that was started.
type Process struct {
	Command
	cmd  *exec.Cmd
	life context.Context // ends with the process
	err  error           // the exit status, once life has ended
}

// build makes the command. A shell sets LISTEN_PID and runs Shell for itself, and then becomes the program.
func (c Command) build() *exec.Cmd {
	path, arguments := c.Path, c.Arguments
	if len(c.Listeners) > 0 {
		c.Shell += fmt.Sprintf("export LISTEN_PID=$$ LISTEN_FDS=%d; ", len(c.Listeners))
	}
	if c.Shell != "" {
		path, arguments = "/bin/sh", append([]string{"-c", c.Shell + `exec "$@"`, "sh", path}, arguments...)
	}
	cmd := in(context.Background(), c.Root, path, arguments...)
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = time.Second // its children may keep the pipe open
	cmd.ExtraFiles = c.Listeners
	return cmd
}

// in makes a command whose root directory is root, "" for that of this process.
func in(ctx context.Context, root, program string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, find(program), arguments...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if root != "" {
		cmd.Dir, cmd.Env = "/", []string{"PATH=" + sbin}
	} else {
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":"+sbin)
	}
	return cmd
}

// Output runs a program to its end, below a root directory if root is not "", and returns what it writes.
func Output(ctx context.Context, root, program string, arguments ...string) (string, error) {
	out, err := in(ctx, root, program, arguments...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %v: %w: %s", program, arguments, err, out)
	}
	return string(out), err
}

// sbin is where Debian has the programs of mail and DNS servers.
const sbin = "/usr/sbin:/usr/bin:/sbin:/bin"

// Start starts a program and does not wait until it is ready. The process does not end with ctx; Stop it.
func (c Command) Start() (*Process, error) {
	if c.Log == nil {
		c.Log = &Log{}
	}
	p := &Process{Command: c, cmd: c.build()}
	p.cmd.Stdout, p.cmd.Stderr = c.Log, c.Log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: run make build deps first", err)
	}
	life, end := context.WithCancelCause(context.Background())
	p.life = life
	go func() {
		p.err = p.cmd.Wait()
		end(fmt.Errorf("%s ended", c.Path))
	}()
	return p, nil
}

// find returns the path of a program, which may be in an sbin directory, or its name if it is missing or has a slash.
func find(program string) string {
	for _, dir := range filepath.SplitList(os.Getenv("PATH") + ":" + sbin) {
		path := filepath.Join(dir, program)
		if s, err := os.Stat(path); err == nil && !s.IsDir() && !strings.Contains(program, "/") {
			return path
		}
	}
	return program
}

// Run starts a socketmap server and returns once it answers. Stop it.
func Run(ctx context.Context, c Command) (*Process, error) {
	p, err := c.Start()
	if err != nil {
		return nil, err
	}
	// With a passed listener, a connection would not show that the process is ready.
	err = p.Ready(ctx, "answers on "+p.Address, func(ctx context.Context) error {
		_, err := p.Ask(ctx, socketmap.Request{Map: "QUERY", Key: "*"})
		return err
	})
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Policyd writes the settings of a policyd into the directory dir, starts it and returns once it answers. The word DIR
// in the settings and in the address stands for dir, whose path must be short, because sockets are in it. DIR/overrides
// is an empty overrides file, so that the one of this machine is not used.
func Policyd(ctx context.Context, dir, settings string, c Command) (*Process, error) {
	c.Config = filepath.Join(dir, "policyd.toml")
	c.Arguments = []string{"serve", "--config", c.Config}
	c.Address = strings.ReplaceAll(c.Address, "DIR", dir)
	err := os.WriteFile(c.Config, []byte(strings.ReplaceAll(settings, "DIR", dir)), 0o600)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overrides"), nil, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return Run(ctx, c)
}

// Ready calls try until it returns no error. It fails when the process ends, or after Timeout.
func (p *Process) Ready(ctx context.Context, what string, try func(context.Context) error) error {
	ctx, cancel := p.context(ctx)
	defer cancel()
	err := Until(ctx, p.Path+" "+what, func() (bool, error) { return try(ctx) == nil, nil })
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, p.Log.Tail(20, ""))
	}
	return nil
}

// Logged waits until the program has written, since its start, a line that contains all the words.
func (p *Process) Logged(ctx context.Context, words ...string) error {
	ctx, cancel := p.context(ctx)
	defer cancel()
	_, _, err := p.Log.Wait(ctx, 0, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
	if err != nil {
		return fmt.Errorf("waiting for %q in the log of %s: %w", words, p.Path, err)
	}
	return nil
}

// context returns a context that ends when the process does, or after Timeout.
func (p *Process) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.life, func() { end(context.Cause(p.life)) })
	return ctx, func() { stop(); cancel() }
}

// Ask asks a socketmap server one question on a connection of its own.
func (p *Process) Ask(ctx context.Context, request socketmap.Request) (socketmap.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	c, err := socketmap.Dial(ctx, p.Address)
	if err != nil {
		return socketmap.Reply{}, err
	}
	reply, err := c.Lookup(ctx, request)
	return reply, errors.Join(err, c.Close())
}

// Run runs a command of policyd with the settings of this one, and returns its exit status and its output, or its error
// messages if there is no output. It is an error if a signal ended the command.
func (p *Process) Run(ctx context.Context, args ...string) (output []byte, status int, err error) {
	cmd := exec.CommandContext(ctx, p.Path, append([]string{"--config", p.Config}, args...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	output, err = cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		if len(output) == 0 {
			output = complaints.Bytes()
		}
		return output, exit.ExitCode(), nil
	}
	if err != nil {
		err = fmt.Errorf("policyd %v: %w: %s", args, err, &complaints)
	}
	return output, 0, err
}

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.life.Done() }

// PID is the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Memory is the resident memory in MiB, see proc_pid_status(5).
func (p *Process) Memory() (mib float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err == nil {
		_, after, _ := strings.Cut(string(text), "VmRSS:")
		_, err = fmt.Sscan(after, &mib)
	}
	return mib / 1024, err
}

// Kill ends the process with SIGKILL. It accepts nil.
func (p *Process) Kill() {
	if p != nil {
		_ = p.cmd.Process.Kill()
		<-p.Ended()
	}
}

// Stop ends the process with SIGTERM. The error is its exit status, or that it had to be killed. It accepts nil.
func (p *Process) Stop() error {
	if p == nil {
		return nil
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.Ended():
		return p.err
	case <-time.After(Timeout / 2):
		p.Kill()
		return fmt.Errorf("%s did not end after SIGTERM", p.Path)
	}
}
