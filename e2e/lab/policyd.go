package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

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
	mode     string
}

const policydSettings = `overrides = "%[2]s/overrides"
dns.servers = [%[1]q]
dns.self_test = ["test."]
dns.timeout = "1s"
cache.state_dir = "%[2]s/state"
port26.mode = %[3]q
port26.probe_special_addresses = true
tls.ca_file = "%[2]s/ca.pem"
admin.socket = "%[2]s/admin.sock"
http.listen = "127.0.0.1:2527"
log.format = "text"
log.lookups = "all"
`

func newPolicyd(binary, dir string, upstream netip.AddrPort) *Policyd {
	listener := must.Get(net.Listen("tcp", PolicydAddr)).(*net.TCPListener)
	file := must.Get(listener.File())
	_ = listener.Close() // the file is a copy
	return &Policyd{dir: dir, upstream: upstream, mode: "always", command: daemon.Command{
		Path: must.Get(filepath.Abs(binary)), Address: PolicydAddr, Listeners: []*os.File{file}}}
}

func (p *Policyd) settings() string { return fmt.Sprintf(policydSettings, p.upstream, p.dir, p.mode) }

// Start starts policyd as systemd does, with the listener passed, and waits until it answers.
func (p *Policyd) Start(ctx context.Context) (err error) {
	p.Process, err = daemon.Policyd(ctx, p.dir, p.settings(), p.command)
	return err
}

// close ends policyd and closes what outlives it.
func (p *Policyd) close() {
	_ = p.Stop()
	_ = p.command.Listeners[0].Close()
}

// SetPort26 changes port26.mode of the running policyd.
func (p *Policyd) SetPort26(ctx context.Context, mode string) error {
	if p.mode == mode {
		return nil
	}
	p.mode = mode
	if err := write(p.Config, p.settings()); err != nil {
		return err
	}
	return p.Ready(ctx, "reloads", func(ctx context.Context) error {
		out, status, err := p.Run(ctx, "reload")
		if status != 0 {
			err = fmt.Errorf("exit status %d: %s", status, out)
		}
		return err
	})
}

// Until repeats a question until it has the wanted answer.
func (p *Policyd) Until(ctx context.Context, q socketmap.Request, want socketmap.Reply) error {
	var last socketmap.Reply
	err := daemon.Until(ctx, "policyd gives the right answer to "+q.Map+" "+q.Key, func() (_ bool, err error) {
		last, err = p.Ask(ctx, q)
		return err == nil && last == want, nil
	})
	if err != nil {
		return fmt.Errorf("%w; the last answer was %s", err, last)
	}
	return nil
}
