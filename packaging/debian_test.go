//go:build e2e

package packaging_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// The machine of TestInDebian: its socket, and an answer that needs no DNS.
const (
	socket    = "/var/spool/postfix/policyd/sock"
	literal   = "secure match=mx.override.example servername=hostname"
	overrides = "# ours\noverride.example " + literal + "\n"
)

func question() socketmap.Request {
	return socketmap.Request{Map: "tls-policy", Key: "override.example"}
}

// TestInDebian installs, uses and removes the package on a clean Debian: each part continues where the last one ended.
func TestInDebian(t *testing.T) {
	deb, next := build(t, "deb", "v1.0.0"), build(t, "deb", "v1.0.1")
	d := newTree(t)
	install(t, d, deb, "/root/first.deb")
	install(t, d, next, "/root/next.deb")

	step(t, "without a running systemd it installs, removes and purges", func(t *testing.T) {
		d.sh(t, "dpkg -i /root/first.deb")
		require.Contains(t, d.sh(t, "policyd version"), "policyd v1.0.0\n")
		require.Equal(t, "root root 644", d.sh(t, "stat -c '%U %G %a' /etc/policyd/policyd.toml"))
		require.Contains(t, d.sh(t, "getent passwd policyd"), ":/var/lib/policyd:/usr/sbin/nologin")
		require.Equal(t, "enabled\nenabled", d.sh(t, "systemctl is-enabled policyd.socket policyd.service"))
		require.Contains(t, d.sh(t, "policyd config check"), "policyd.toml: ok\n/etc/policyd/overrides: ok")
		d.sh(t, "dpkg -r policyd")
		require.FileExists(t, d.path("/etc/policyd/overrides"))
		d.sh(t, "dpkg -P policyd")
		nothingLeft(t, d)
	})

	d.sh(t, "dpkg -i /root/first.deb")
	d.boot(t)

	step(t, "it runs from the start, sandboxed", func(t *testing.T) {
		require.Equal(t, "active\nactive", d.sh(t, "systemctl is-active policyd.socket policyd.service"))
		require.Equal(t, "policyd policyd 660 socket", d.sh(t, "stat -c '%U %G %a %F' /run/policyd/admin.sock"))
		require.Equal(t, "policyd policyd 750", d.sh(t, "stat -c '%U %G %a' /var/lib/policyd"))
		s := status(t, d)
		require.ElementsMatch(t, []string{"127.0.0.1:2526", "unix:" + socket}, s.Connections.Listeners)
		require.Empty(t, d.sh(t, "systemctl --failed --no-legend --plain"))
	})

	step(t, "without Postfix its socket is root's", func(t *testing.T) {
		require.Equal(t, "root root 660 socket", d.sh(t, "stat -c '%U %G %a %F' "+socket))
	})

	step(t, "the units are valid and sandboxed", func(t *testing.T) {
		require.Empty(t, d.sh(t, "systemd-analyze --man=no verify policyd.socket policyd.service"))
		out := d.sh(t, "systemd-analyze security --no-pager --offline=true policyd.service | tail -n 1")
		exposure, err := strconv.ParseFloat(regexp.MustCompile(`[0-9]+\.[0-9]+`).FindString(out), 64)
		require.NoError(t, err, out)
		t.Log(strings.TrimSpace(out))
		require.Less(t, exposure, 1.5)
	})

	step(t, "Postfix is installed: its group has the socket", func(t *testing.T) {
		d.sh(t, "apt-get install -qq -y --no-install-recommends --no-download postfix")
		d.eventually(t, `test "$(stat -c '%U %G %a %F' `+socket+`)" = 'root postfix 660 socket'`)
		require.Equal(t, "root postfix 2750", d.sh(t, "stat -c '%U %G %a' "+socket[:strings.LastIndex(socket, "/")]))
		require.Equal(t, "active\nactive", d.sh(t, "systemctl is-active policyd.socket policyd.service"))
	})

	step(t, "a reload applies the overrides", func(t *testing.T) {
		d.write(t, "/etc/policyd/overrides", overrides)
		d.sh(t, "systemctl reload policyd.service")
		require.Regexp(t, `"overrides": ?1`, d.sh(t, "policyd status --json"))
	})

	step(t, "Postfix asks as it does in its chroot, and over TCP", func(t *testing.T) {
		// postmap(1) resolves a relative path as smtp(8) does: from the queue directory, which is its root.
		for _, endpoint := range []string{"unix:policyd/sock", "inet:127.0.0.1:2526"} {
			require.Equal(t, literal, d.sh(t, "cd /var/spool/postfix && setpriv --reuid=postfix --regid=postfix --init-groups "+
				"postmap -q override.example socketmap:"+endpoint+":tls-policy"))
		}
	})

	journal(t, d)

	step(t, "the sandbox lets it read what Postfix receives", func(t *testing.T) {
		require.Contains(t, d.sh(t, "policyd doctor --json || true"), `"own-domains-known"`)
	})

	restarts(t, d)
	failures(t, d)
	settings(t, d)
	goes(t, d)
}

// journal runs the commands of the operator guide that read the journal. It must know every one of them.
func journal(t *testing.T, d *tree) {
	guide, err := os.ReadFile("../docs/operator-guide.md")
	require.NoError(t, err)
	commands := regexp.MustCompile(`(?m)^journalctl .*(\n {2}.*)*$`).FindAllString(string(guide), -1)
	const delivered = "Verified TLS connection established to mx.override.example[192.0.2.1]:25: TLSv1.3"
	// A real smtp(8) shows under which name the journal keeps its lines; the line of a delivery is the same as Postfix's.
	d.sh(t, "postconf -e 'transport_maps = inline:{deferred.example=smtp:[127.0.0.1]:9}' && postfix reload 2>/dev/null; "+
		"echo test | sendmail -f root@localhost user@deferred.example")
	d.eventually(t, "journalctl -t postfix/smtp --grep 'to=<user@deferred.example>.*status=deferred'")
	d.sh(t, "postsuper -d ALL; postconf -X transport_maps; logger -t postfix/smtp '"+delivered+"'; logger -t postfix/smtps26/smtp '"+delivered+"'")
	for _, c := range []struct{ command, output string }{
		{"journalctl -u policyd --grep 'msg=decision'", `(?m) msg=decision .*nexthop=override\.example .*answer="OK ` + literal + `"`},
		{"journalctl -u policyd --output cat --grep 'answer=\"OK ' |", `(?m)^override\.example$`},
		{"journalctl -t postfix/smtp -t postfix/smtps26/smtp --grep 'Verified TLS'", `(?s)postfix/smtp\S*: Verified TLS .*postfix/smtps26/smtp\S*: Verified TLS `},
	} {
		step(t, "the guide: "+c.command, func(t *testing.T) {
			i := slices.IndexFunc(commands, func(s string) bool { return strings.HasPrefix(s, c.command) })
			require.GreaterOrEqual(t, i, 0, "the guide does not have this command")
			script, _, _ := strings.Cut(commands[i], "| policyd check") // which would need the Internet
			commands = slices.Delete(commands, i, i+1)
			d.eventually(t, script+" | grep -q .")
			require.Regexp(t, c.output, d.sh(t, script))
		})
	}
	require.Empty(t, commands, "commands of the guide that are not tested here")
}

// restarts checks that clients do not notice a restart: the listeners stay, and no lookup fails or has a weaker answer.
func restarts(t *testing.T, d *tree) {
	opened := d.sh(t, "systemctl show --value -p ActiveEnterTimestampMonotonic policyd.socket")
	for _, c := range []struct{ name, script string }{
		{"a restart", "systemctl restart policyd.service"},
		{"a crash", "kill -9 $(systemctl show --value -p MainPID policyd.service)"},
		{"an upgrade", "dpkg -i /root/next.deb"},
	} {
		step(t, c.name+" is not noticed", func(t *testing.T) {
			before := d.sh(t, "systemctl show --value -p MainPID policyd.service")
			l := startLoad(t, d.path(socket), question(), "OK "+literal)
			d.sh(t, c.script)
			d.eventually(t, `pid=$(systemctl show --value -p MainPID policyd.service); test "$pid" != 0 -a "$pid" != `+before)
			d.eventually(t, "systemctl is-active policyd.service")
			l.goOn(t)
			l.stop(t)
			require.Equal(t, opened, d.sh(t, "systemctl show --value -p ActiveEnterTimestampMonotonic policyd.socket"))
		})
	}
	step(t, "an upgrade keeps settings and state", func(t *testing.T) {
		require.Contains(t, status(t, d).Version, "v1.0.1")
		require.Equal(t, overrides, d.read(t, "/etc/policyd/overrides"))
		require.FileExists(t, d.path("/var/lib/policyd/mtasts.db"))
	})
	step(t, "the watchdog replaces a daemon that hangs", func(t *testing.T) {
		d.write(t, "/etc/systemd/system/policyd.service.d/test.conf", "[Service]\nWatchdogSec=3s\n")
		d.sh(t, "systemctl daemon-reload && systemctl restart policyd.service")
		before := d.sh(t, "systemctl show --value -p MainPID policyd.service")
		d.sh(t, "kill -STOP "+before)
		d.eventually(t, `pid=$(systemctl show --value -p MainPID policyd.service); test "$pid" != 0 -a "$pid" != `+before)
		d.eventually(t, "systemctl is-active policyd.service")
		require.NoError(t, os.RemoveAll(d.path("/etc/systemd/system/policyd.service.d")))
		d.sh(t, "systemctl daemon-reload")
	})
}

// settings checks the effect of wrong settings.
func settings(t *testing.T, d *tree) {
	const restart = "systemctl restart policyd.service"
	step(t, "an upgrade with bad settings leaves the old one running", func(t *testing.T) {
		before := d.sh(t, "systemctl show --value -p MainPID policyd.service")
		d.write(t, "/etc/policyd/policyd.toml", "nonsense = 1\n")
		require.Contains(t, d.sh(t, "dpkg -i /root/next.deb 2>&1"), "policyd.toml:1: unknown key nonsense")
		require.Equal(t, before, d.sh(t, "systemctl show --value -p MainPID policyd.service"))
	})
	step(t, "a start with wrong settings fails, the sockets stay, and mail flows again once they are fixed", func(t *testing.T) {
		require.Error(t, d.command(t.Context(), restart).Run())
		require.Equal(t, "2", d.sh(t, "systemctl show --value -p ExecMainStatus policyd.service"))
		waiting := make(chan string, 1)
		go func() { waiting <- asked(t.Context(), "unix:"+d.path(socket)) }()
		const started = "journalctl -u policyd.service --no-pager | grep -c 'policyd.toml:1: unknown key nonsense'"
		before, err := strconv.Atoi(d.sh(t, started))
		require.NoError(t, err)
		d.eventually(t, "test $("+started+") -ge "+strconv.Itoa(before+5)) // the connection starts it again and again
		// The status has the messages of one start only, and in its first moment none.
		d.eventually(t, "(systemctl status --no-pager policyd.service || true) | grep -c 'policyd.toml:1: unknown key nonsense'")
		require.Equal(t, "active", d.sh(t, "systemctl is-active policyd.socket"))
		require.Empty(t, waiting)
		d.write(t, "/etc/policyd/policyd.toml", "mode = \"enforce\"\n")
		require.Equal(t, "OK "+literal, <-waiting, "by itself")
		d.eventually(t, "systemctl is-active policyd.service")
		startLoad(t, d.path(socket), question(), "OK "+literal).stop(t)
	})
}

// asked sends one request, and waits for the answer as long as Postfix does.
func asked(ctx context.Context, address string) string {
	const timeout = 100 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := socketmap.Dial(ctx, address)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	r, err := c.Lookup(ctx, question())
	if err != nil {
		return err.Error()
	}
	return r.String()
}

// goes removes the package.
func goes(t *testing.T, d *tree) {
	step(t, "remove warns while Postfix still asks policyd", func(t *testing.T) {
		d.sh(t, "postconf -e 'smtp_tls_policy_maps = socketmap:unix:policyd/sock:tls-policy'")
		out := d.sh(t, "dpkg -r policyd 2>&1")
		require.Equal(t, 2, strings.Count(out, "policyd: "), out)
		require.Contains(t, out, "Postfix is configured to ask policyd")
		require.Contains(t, out, "or install policyd again", "the message appears after the program is removed")
		d.sh(t, "postconf -X smtp_tls_policy_maps")
	})
	step(t, "an installation that fails for want of a terminal leaves no unit masked", func(t *testing.T) {
		d.sh(t, "echo '# ours' >>/etc/policyd/policyd.toml")
		d.sh(t, "mkdir -p /root/other && dpkg-deb -R /root/next.deb /root/other && echo '# theirs' >>/root/other/etc/policyd/policyd.toml && "+
			"dpkg-deb -b /root/other /root/other.deb >/dev/null && rm -r /root/other")
		require.Error(t, d.command(t.Context(), "dpkg -i /root/other.deb </dev/null").Run(), "the settings are a conffile that was changed on both sides")
		require.NotContains(t, d.sh(t, "systemctl is-enabled policyd.socket policyd.service || true"), "masked")
		d.sh(t, "dpkg --force-confold --configure policyd </dev/null")
		require.Equal(t, "enabled\nenabled", d.sh(t, "systemctl is-enabled policyd.socket policyd.service"))
		require.Equal(t, "active\nactive", d.sh(t, "systemctl is-active policyd.socket policyd.service"))
		startLoad(t, d.path(socket), question(), "OK "+literal).stop(t)
	})
	step(t, "remove stops it, keeps settings and state, and masks nothing", func(t *testing.T) {
		require.Empty(t, d.sh(t, "dpkg -r policyd 2>&1 >/dev/null"))
		require.NotContains(t, d.sh(t, "systemctl is-enabled policyd.socket policyd.service 2>&1 || true"), "masked")
		require.Equal(t, "inactive\ninactive", d.sh(t, "systemctl is-active policyd.socket policyd.service || true"))
		require.NoFileExists(t, d.path(socket))
		require.FileExists(t, d.path("/etc/policyd/overrides"))
		require.FileExists(t, d.path("/var/lib/policyd/mtasts.db"))
	})
	step(t, "purge leaves nothing", func(t *testing.T) {
		d.sh(t, "dpkg -P policyd")
		nothingLeft(t, d)
		require.Empty(t, d.sh(t, "systemctl list-units --all --no-legend --plain 'policyd*'"))
	})
	d.poweroff(t)
	step(t, "the scripts of the rpm work", func(t *testing.T) {
		install(t, d, build(t, "rpm", "v1.0.0"), "/root/first.rpm")
		install(t, d, build(t, "rpm", "v1.0.1"), "/root/next.rpm")
		run(t, "rpm", "--root", d.dir, "--nodeps", "-i", d.path("/root/first.rpm"))
		run(t, "rpm", "--root", d.dir, "--nodeps", "-U", d.path("/root/next.rpm"))
		require.Equal(t, "enabled\nenabled", d.sh(t, "systemctl is-enabled policyd.socket policyd.service"))
		require.Contains(t, d.sh(t, "getent passwd policyd"), ":/var/lib/policyd:/usr/sbin/nologin")
		require.Contains(t, d.sh(t, "policyd version"), "policyd v1.0.1\n")
		run(t, "rpm", "--root", d.dir, "-e", "policyd")
		require.NoFileExists(t, d.path("/usr/bin/policyd"))
	})
}

// step is a part of the test on which the next parts depend.
func step(t *testing.T, name string, part func(*testing.T)) {
	t.Helper()
	if !t.Run(name, part) {
		t.FailNow()
	}
}

// nothingLeft checks that the package left nothing behind, except what dpkg itself keeps about removed packages.
func nothingLeft(t *testing.T, d *tree) {
	t.Helper()
	require.Empty(t, d.sh(t, "find / -xdev -name '*policyd*' ! -path '/root/*' ! -path '/proc/*' ! -path '/sys/*' ! -path '/var/log/*' ! -path '/tmp/*'"))
	require.Empty(t, d.sh(t, "getent passwd policyd || getent group policyd || true"))
}

// install copies a package into the tree.
func install(t *testing.T, d *tree, pkg, as string) {
	t.Helper()
	run(t, "cp", pkg, d.path(as))
}

// statusJSON is the part of `policyd status --json` that the tests use.
type statusJSON struct {
	Version     string `json:"version"`
	Connections struct {
		Listeners []string `json:"listeners"`
	} `json:"connections"`
}

func status(t *testing.T, d *tree) (s statusJSON) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(d.sh(t, "policyd status --json")), &s))
	return s
}
