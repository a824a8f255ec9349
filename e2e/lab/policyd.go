package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// PolicydAddr is where Postfix asks, as in the examples.
const PolicydAddr = "127.0.0.1:2526"

// Policyd is the daemon under test. Its listener outlives it, as with a systemd socket unit.
type Policyd struct {
	*daemon.Process
	command  daemon.Command
	dir      string
	upstream netip.AddrPort
	notify   *net.UnixConn
	mode     string
}

const policydSettings = `[dns]
servers = [%[1]q]
self_test = ["test."]
timeout = "1s"
[cache]
state_dir = "%[2]s/state"
[port26]
mode = %[3]q
probe_special_addresses = true
[tls]
ca_file = %[4]q
[admin]
socket = "%[2]s/admin.sock"
[http]
listen = "127.0.0.1:2527"
[log]
format = "text"
lookups = "all"
`

func newPolicyd(binary, dir string, upstream netip.AddrPort) *Policyd {
	listener := must.Get(net.Listen("tcp", PolicydAddr)).(*net.TCPListener)
	file := must.Get(listener.File())
	_ = listener.Close() // the file is a copy
	notify := filepath.Join(dir, "notify")
	p := &Policyd{dir: dir, upstream: upstream, mode: "always",
		notify: must.Get(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"}))}
	p.command = daemon.Command{
		Path: must.Get(filepath.Abs(binary)), Arguments: []string{"serve", "--config", p.Settings()},
		Config:    p.Settings(),
		Address:   PolicydAddr,
		Variables: []string{"NOTIFY_SOCKET=" + notify}, Listeners: []*os.File{file},
	}
	return p
}

// Settings is the path of the settings file.
func (p *Policyd) Settings() string { return filepath.Join(p.dir, "policyd.toml") }

func (p *Policyd) writeSettings() error {
	if err := os.MkdirAll(filepath.Join(p.dir, "state"), 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return write(p.Settings(), fmt.Sprintf(policydSettings, p.upstream, p.dir, p.mode, caFile(p.dir)))
}

// Start starts policyd as systemd does, with the listener passed, and waits until it reports that it is ready.
func (p *Policyd) Start(ctx context.Context) (err error) {
	if err := p.writeSettings(); err != nil {
		return err
	}
	if p.Process, err = p.command.Start(); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return p.waitFor(ctx, "READY=1")
}

// waitFor waits for a state that policyd reports to the service manager.
func (p *Policyd) waitFor(ctx context.Context, state string) error {
	ctx, cancel := p.Context(ctx)
	defer cancel()
	_ = p.notify.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = p.notify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, err := p.notify.Read(buf)
		if err != nil {
			return fmt.Errorf("lab: policyd did not report %s: %w: %s", state, err, p.Log.Tail(10, ""))
		}
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), state) {
			return nil
		}
	}
}

// close ends policyd and closes what outlives it.
func (p *Policyd) close() {
	_ = p.Stop()
	_ = p.command.Listeners[0].Close()
	_ = p.notify.Close()
}

// SetPort26 changes port26.mode of the running policyd.
func (p *Policyd) SetPort26(ctx context.Context, mode string) error {
	if p.mode == mode {
		return nil
	}
	p.mode = mode
	return must.Catch(func() {
		must.Do(p.writeSettings())
		must.Do(p.Signal(syscall.SIGHUP))
		must.Do(p.waitFor(ctx, "RELOADING=1"))
		must.Do(p.waitFor(ctx, "READY=1"))
	})
}

// Until repeats a question until fits returns true for the answer.
func (p *Policyd) Until(ctx context.Context, q socketmap.Request, fits func(socketmap.Reply) bool) error {
	var last string
	err := daemon.Until(ctx, "policyd gives the right answer to "+q.Map+" "+q.Key, func() (bool, error) {
		r, err := p.Ask(ctx, q)
		last = fmt.Sprintf("%v %v", r, err)
		return err == nil && fits(r), nil
	})
	if err != nil {
		return fmt.Errorf("%w; the last answer was %s", err, last)
	}
	return nil
}

// Logged waits until policyd has logged, since its start, a line that contains all the words.
func (p *Policyd) Logged(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := p.Context(ctx)
	defer cancel()
	line, _, err := p.Log.Wait(ctx, 0, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
	if err != nil {
		return "", fmt.Errorf("lab: waiting for %q in policyd's log: %w", words, err)
	}
	return line, nil
}
