//go:build e2e

package packaging_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

const (
	active      = "systemctl is-active policyd.socket policyd.service"
	bothActive  = "systemctl -q is-active policyd.socket && systemctl -q is-active policyd.service"
	mainPID     = "systemctl show --value -p MainPID policyd.service"
	goodToml    = "mode = \"enforce\"\n"
	tomlPath    = "/etc/policyd/policyd.toml"
	socketPart  = "/etc/systemd/system/policyd.socket.d"
	lateAddress = "192.0.2.7"
)

// failures breaks things around the service. After each, policyd must answer over the unix socket again.
func failures(t *testing.T, d *tree) {
	reloads(t, d)
	step(t, "40 failures in a row leave the sockets as they are", func(t *testing.T) {
		d.killWhileBusy(t, 40)
		d.answers(t)
	})
	step(t, "the trigger limit removes the socket, and it comes back", func(t *testing.T) {
		d.write(t, socketPart+"/test.conf", "[Socket]\nTriggerLimitBurst=2\n")
		d.sh(t, "systemctl daemon-reload && systemctl restart policyd.socket")
		d.killWhileBusy(t, 12)
		require.Contains(t, d.sh(t, "journalctl -u policyd.socket --no-pager"), "Trigger limit hit")
		d.answers(t)
		require.NoError(t, os.RemoveAll(d.path(socketPart)))
		d.sh(t, "systemctl daemon-reload && systemctl restart policyd.socket")
		d.answers(t)
	})
	step(t, "a socket that was removed is made again", func(t *testing.T) {
		for _, script := range []string{
			"rm " + socket,
			"mv " + socket + " " + socket + "~; rm " + socket + "~",
			"rm " + socket + " && systemctl restart policyd.service",
			"kill -STOP $(" + mainPID + "); rm " + socket + "; kill -9 $(" + mainPID + ")",
		} {
			d.sh(t, script)
			d.answers(t)
		}
	})
	step(t, "restart and stop of policyd.socket include the service", func(t *testing.T) {
		before := d.sh(t, mainPID)
		d.sh(t, "systemctl restart policyd.socket")
		d.eventually(t, bothActive) // the service has a separate job
		require.NotEqual(t, before, d.sh(t, mainPID))
		d.answers(t)
		d.sh(t, "systemctl stop policyd.socket")
		require.Equal(t, "inactive\ninactive", d.sh(t, active+" || true"))
		require.NoFileExists(t, d.path(socket))
		d.sh(t, "systemctl start policyd.service")
		require.Equal(t, "active\nactive", d.sh(t, active))
		d.answers(t)
	})
	step(t, "an upgrade that changes policyd.socket prints how to apply the change", func(t *testing.T) {
		require.NotContains(t, d.sh(t, "dpkg -i /root/next.deb 2>&1"), "policyd.socket has changed")
		d.sh(t, "sed -i 's/^SocketMode=.*/SocketMode=0600/' /usr/lib/systemd/system/policyd.socket")
		require.Contains(t, d.sh(t, "dpkg -i /root/next.deb 2>&1"), "policyd.socket has changed; to apply the change, run \"systemctl restart policyd.socket\"")
		d.answers(t)
	})
	step(t, "metrics at an address that appears later", func(t *testing.T) {
		d.write(t, tomlPath, goodToml+"[metrics]\nlisten = \""+lateAddress+":9526\"\n")
		d.sh(t, "systemctl restart policyd.service")
		require.Contains(t, d.sh(t, "policyd status"), "metrics.listen: cannot listen on "+lateAddress+":9526")
		d.answers(t)
		run(t, "nsenter", "--target", strconv.Itoa(d.leader), "--net", "ip", "address", "add", lateAddress+"/32", "dev", "lo")
		d.eventually(t, "! policyd status | grep -q 'cannot listen on'")
		d.write(t, tomlPath, goodToml)
		d.sh(t, "systemctl restart policyd.service")
	})
	step(t, "a warning names the addresses of server.listen that the listeners of systemd replace", func(t *testing.T) {
		d.write(t, tomlPath, goodToml+"[server]\nlisten = [\"127.0.0.1:2525\"]\n")
		const want = "server.listen: 127.0.0.1:2525 is not used"
		require.Contains(t, d.sh(t, "policyd config check"), want)
		d.sh(t, "systemctl restart policyd.service")
		require.Contains(t, d.sh(t, "policyd status"), want[:40])
		require.Contains(t, d.sh(t, "journalctl -u policyd.service --no-pager"), want)
		d.write(t, tomlPath, goodToml)
		require.NotContains(t, d.sh(t, "policyd config check"), "is not used")
		d.sh(t, "systemctl restart policyd.service")
	})
}

// reloads runs `systemctl reload policyd` as an operator would.
func reloads(t *testing.T, d *tree) {
	step(t, "a reload with a mistake fails, reports what is wrong, and keeps the previous settings", func(t *testing.T) {
		before := d.sh(t, mainPID)
		d.write(t, tomlPath, "mode = \"reprot\"\n")
		out, err := d.command(t.Context(), "systemctl reload policyd.service").CombinedOutput()
		require.Error(t, err, "%s", out)
		require.Contains(t, string(out), "Job for policyd.service failed")
		require.Contains(t, d.sh(t, "systemctl status --no-pager policyd.service || true"), "policyd.toml:1: mode: ")
		out, err = d.command(t.Context(), "policyd reload").CombinedOutput()
		exited := &exec.ExitError{}
		require.ErrorAs(t, err, &exited)
		require.Equal(t, 2, exited.ExitCode())
		require.Contains(t, string(out), "policyd.toml:1: mode: ")
		require.Equal(t, before, d.sh(t, mainPID))
		require.Contains(t, d.sh(t, "policyd status"), "mode enforce")

		d.write(t, tomlPath, "mode = \"report\"\n")
		d.sh(t, "systemctl reload policyd.service")
		require.Contains(t, d.sh(t, "policyd status"), "mode report")
		d.write(t, tomlPath, goodToml)
		d.sh(t, "systemctl kill --kill-whom=main --signal=HUP policyd.service")
		d.eventually(t, "policyd status | grep -q 'mode enforce'")
	})
}

// killWhileBusy kills the service again and again, while clients are busy on the unix socket.
func (d *tree) killWhileBusy(t *testing.T, times int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if c, err := socketmap.Dial(ctx, "unix:"+d.path(socket)); err == nil {
				_, _ = c.Lookup(ctx, question()) // it may be cut off
				_ = c.Close()
			}
		}
	}()
	d.sh(t, "for i in $(seq "+strconv.Itoa(times)+"); do pid=$("+mainPID+`); test "$pid" = 0 || kill -9 $pid || true; sleep 0.25; done`)
	cancel()
	<-ended
}

// answers waits until both units are active and 200 lookups in a row over the unix socket are answered, each over a
// connection of its own. A lost socket is repaired within 10 seconds.
func (d *tree) answers(t *testing.T) {
	t.Helper()
	const lookups = 200
	require.Eventually(t, func() bool {
		for range lookups {
			if asked(t.Context(), "unix:"+d.path(socket)) != "OK "+literal {
				return false
			}
		}
		return d.command(t.Context(), bothActive).Run() == nil
	}, waitLimit, 100*time.Millisecond)
}
