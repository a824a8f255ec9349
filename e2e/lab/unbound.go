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

	"github.com/policyd/policyd/e2e/lab/zone"
)

// Unbound is a validating resolver that serves the lab's zones.
type Unbound struct {
	Addr netip.AddrPort

	config string
	proc   *process
}

// The options that matter are explained in unbound.conf(5). The zones are answered by the iterator as if they came from
// a server on the network, so that all of them are validated from the trust anchor down.
const unboundConfig = `server:
  interface: %[1]s@%[2]d
  do-not-query-localhost: no
  use-syslog: no
  verbosity: 1
  username: ""
  chroot: ""
  directory: "%[3]s"
  pidfile: ""
  module-config: "validator iterator"
  trust-anchor-file: "%[3]s/anchor"
  qname-minimisation: no
  local-zone: "test." nodefault
  ede: yes
  val-log-level: 2
  val-bogus-ttl: 1
  num-threads: 1
remote-control:
  control-enable: yes
  control-interface: "%[3]s/control-%[2]d"
`

const unboundZone = `auth-zone:
  name: "%[1]s"
  zonefile: "%[2]s"
  for-upstream: yes
  for-downstream: no
  fallback-enabled: no
`

// newUnbound writes the configuration of a resolver for the zones in dir.
func newUnbound(addr netip.AddrPort, dir string, origins []string) (*Unbound, error) {
	var b strings.Builder
	fmt.Fprintf(&b, unboundConfig, addr.Addr(), addr.Port(), dir)
	for _, o := range origins {
		fmt.Fprintf(&b, unboundZone, o, zone.File(o))
	}
	path := filepath.Join(dir, fmt.Sprintf("unbound-%d.conf", addr.Port()))
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return &Unbound{Addr: addr, config: path}, nil
}

// Start starts the resolver and waits until it takes questions.
func (u *Unbound) Start(ctx context.Context) error {
	path, err := look("unbound")
	if err != nil {
		return err
	}
	if u.proc, err = start("unbound", exec.Command(path, "-d", "-c", u.config)); err != nil {
		return err
	}
	ctx, cancel := u.proc.context(ctx)
	defer cancel()
	err = until(ctx, "unbound listens", func() bool {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", u.Addr.String())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, u.proc.output.tail(5, "error", "fatal", "warning"))
	}
	return nil
}

// Kill ends the resolver with SIGKILL.
func (u *Unbound) Kill() { u.proc.stop(syscall.SIGKILL) }

// Freeze stops the resolver without closing its port: it answers nothing.
func (u *Unbound) Freeze() { _ = u.proc.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw ends that.
func (u *Unbound) Thaw(context.Context) error { return u.proc.cmd.Process.Signal(syscall.SIGCONT) }

// Reload makes a running resolver read a zone again and drop its cache for name and the names below it.
func (u *Unbound) Reload(ctx context.Context, origin, name string) error {
	for _, args := range [][]string{{"auth_zone_reload", origin}, {"flush_zone", name}} {
		if _, err := run(ctx, "unbound-control", append([]string{"-c", u.config}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// look finds a program, also in the sbin directories.
func look(program string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		path := filepath.Join(dir, program)
		if s, err := os.Stat(path); err == nil && !s.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("lab: %s is not installed: run e2e/install-deps", program)
}
