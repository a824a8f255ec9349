package doctor

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/stub"
)

// Without resolv.conf in the chroot, smtp(8) asks 127.0.0.1: the finding does not name a file that is not there.
func TestNoResolvConfInTheChroot(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	require.NoError(t, os.Remove(s.dir+"/queue/etc/resolv.conf"))
	var found []string
	for _, f := range s.examine().Findings {
		found = append(found, f.What)
	}
	require.Contains(t, strings.Join(found, "\n"), "smtp(8) uses 127.0.0.1:53 because there is no "+s.dir)
}

// Postfix asks the servers that the C library finds in resolv.conf(5). It ignores a server with a port there, and asks
// 127.0.0.1 if there is no other.
func TestTheServersOfPostfix(t *testing.T) {
	t.Parallel()
	const local, port = "nameserver 127.0.0.1\n", "nameserver 127.0.0.1:5300\n"
	for _, c := range []struct{ own, system, chroot, resolver, what, chrooted string }{
		{"127.0.0.1:53", local, local, "resolver-same", "", "chroot-resolver-same"},
		{"127.0.0.1:53", "search own.example\n", port, "resolver-same", "", "chroot-resolver-same"},
		{"127.0.0.1:5300", port, "", "resolver-differs", "policyd asks 127.0.0.1:5300, and DIR has 127.0.0.1:53", "chroot-resolver-same"},
		{"127.0.0.1:5300", local, local, "resolver-differs", "policyd asks 127.0.0.1:5300, and DIR has 127.0.0.1:53", "chroot-resolver-same"},
		{"192.0.2.2:53 192.0.2.1:53", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n", port, "resolver-same", "", "chroot-resolver-differs"},
		{"192.0.2.1:53", port + "nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n", "resolver-same", "", "chroot-resolver-same"},
	} {
		s := newSender(t)
		s.write("resolv.conf", c.system)
		s.write("queue/etc/resolv.conf", c.chroot)
		e := exam{plan: plan{
			Options: Options{Settings: s.loaded(), ResolvConf: s.dir + "/resolv.conf"},
			queue:   s.dir + "/queue", params: postfix.Settings{"smtp/unix/chroot": "y"},
		}}
		e.checkResolvConf(stub.State{Servers: strings.Fields(c.own), Source: "settings"})
		require.Equal(t, []string{c.resolver, c.chrooted}, codes(Report{Findings: e.findings}), c)
		require.Contains(t, strings.Replace(e.findings[0].What, e.ResolvConf, "DIR", 1), c.what)
	}
}
