package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// PolicydAddr is where Postfix asks, as in the examples.
const PolicydAddr = "127.0.0.1:2526"

// Policyd is the daemon under test. Its listener outlives it, as with a systemd socket unit.
type Policyd struct {
	binary, dir string
	upstream    netip.AddrPort
	listener    *os.File
	notify      *net.UnixConn
	proc        *process
	mode        string
}

const policydSettings = `[dns]
servers = [%[1]q]
self_test = ["test."]
timeout = "1s"
[cache]
state_dir = %[2]q
[port26]
mode = %[3]q
probe_special_addresses = true
[tls]
ca_file = %[4]q
[admin]
socket = %[5]q
[log]
format = "text"
lookups = "all"
`

func newPolicyd(binary, dir string, upstream netip.AddrPort) (*Policyd, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("lab: policyd is not built: %w", err)
	}
	p := &Policyd{binary: binary, dir: dir, upstream: upstream, mode: "always"}
	l, err := net.Listen("tcp", PolicydAddr)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if p.listener, err = l.(*net.TCPListener).File(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	_ = l.Close() // the file is a copy
	p.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return p, nil
}

// Settings is the path of the settings file.
func (p *Policyd) Settings() string { return filepath.Join(p.dir, "policyd.toml") }

func (p *Policyd) writeSettings() error {
	state := filepath.Join(p.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	text := fmt.Sprintf(policydSettings, p.upstream, state, p.mode, caFile(p.dir), filepath.Join(p.dir, "admin.sock"))
	if err := write(p.Settings(), text); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// Start starts policyd as systemd does, with the listener passed, and waits until it reports that it is ready.
func (p *Policyd) Start(ctx context.Context) error {
	if err := p.writeSettings(); err != nil {
		return err
	}
	// LISTEN_PID must be the process ID of policyd: the shell sets it to its own and then becomes policyd.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", p.binary, "serve", "--config", p.Settings())
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+p.notify.LocalAddr().String(),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.ExtraFiles = []*os.File{p.listener}
	var err error
	if p.proc, err = start("policyd", cmd); err != nil {
		return err
	}
	return p.waitFor(ctx, "READY=1")
}

// waitFor waits for a state that policyd reports to the service manager.
func (p *Policyd) waitFor(ctx context.Context, state string) error {
	ctx, cancel := p.proc.context(ctx)
	defer cancel()
	_ = p.notify.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = p.notify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, err := p.notify.Read(buf)
		if err != nil {
			return fmt.Errorf("lab: policyd did not say %s: %w: %s", state, err, p.Log(10))
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			if line == state {
				return nil
			}
		}
	}
}

// Kill ends policyd with SIGKILL; its listener stays open.
func (p *Policyd) Kill() { p.proc.stop(syscall.SIGKILL) }

// Stop ends policyd.
func (p *Policyd) Stop() { p.proc.stop(syscall.SIGTERM) }

// close closes what outlives policyd.
func (p *Policyd) close() {
	_ = p.listener.Close()
	_ = p.notify.Close()
	_ = os.Remove(p.notify.LocalAddr().String())
}

// SetPort26 changes port26.mode of the running policyd.
func (p *Policyd) SetPort26(ctx context.Context, mode string) error {
	if p.mode == mode {
		return nil
	}
	p.mode = mode
	if err := p.writeSettings(); err != nil {
		return err
	}
	if err := p.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := p.waitFor(ctx, "RELOADING=1"); err != nil {
		return err
	}
	return p.waitFor(ctx, "READY=1")
}

// Ask asks one question as Postfix would.
func (p *Policyd) Ask(ctx context.Context, name, key string) (socketmap.Reply, error) {
	c, err := socketmap.Dial(ctx, PolicydAddr)
	if err != nil {
		return socketmap.Reply{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Lookup(ctx, socketmap.Request{Map: name, Key: key})
}

// Until repeats a question until fits returns true for the answer.
func (p *Policyd) Until(ctx context.Context, q Question, fits func(socketmap.Reply) bool) error {
	var last string
	err := until(ctx, "policyd answers "+q.Map+" "+q.Key+" as it should", func() bool {
		r, err := p.Ask(ctx, q.Map, q.Key)
		last = fmt.Sprintf("%v %v", r, err)
		return err == nil && fits(r)
	})
	if err != nil {
		return fmt.Errorf("%w; the last answer was %s", err, last)
	}
	return nil
}

// Logged waits until policyd has logged, since its start, a line that contains all the words.
func (p *Policyd) Logged(ctx context.Context, words ...string) (string, error) {
	line, _, err := p.proc.output.wait(ctx, 0, func(line string) bool {
		for _, w := range words {
			if !strings.Contains(line, w) {
				return false
			}
		}
		return true
	})
	if err != nil {
		return "", fmt.Errorf("lab: waiting for %q in policyd's log: %w", words, err)
	}
	return line, nil
}

// Question is a map and a key.
type Question struct{ Map, Key string }

// Log returns the last lines of policyd's log.
func (p *Policyd) Log(count int, words ...string) string {
	if p.proc == nil {
		return ""
	}
	if len(words) == 0 {
		words = []string{""}
	}
	return p.proc.output.tail(count, words...)
}
