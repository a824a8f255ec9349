package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/socketmap"
)

// "SIGHUP re-reads settings and overrides; listeners, connections and cache stay."
func TestReloadKeepsConnectionsAndCache(t *testing.T) {
	l := newLab(t, "").start()
	c := l.client()
	require.Equal(t, unsignedPolicy, ask(t, c, "unsigned.example"))
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))

	l.write("policy.unsigned_mx = \"ignore\"")
	require.NoError(t, l.reload())
	require.Equal(t, "NOTFOUND ", ask(t, c, "unsigned.example"))
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	require.Equal(t, 1, l.dns.Asked("unsigned.example", dns.TypeMX))
	require.Equal(t, 1, l.dns.Asked("signed.example", dns.TypeMX))
	require.EqualValues(t, 1, l.daemon.server.Stats().Accepted)
	require.True(t, l.daemon.last.Load().OK)
	require.Equal(t, "ignore", l.daemon.loaded.Load().Policy.UnsignedMX)
}

func TestReloadReadsTheOverrides(t *testing.T) {
	l := newLab(t, "")
	overrides := filepath.Join(l.dir, "overrides")
	require.NoError(t, os.WriteFile(overrides, []byte("# none\n"), 0o600))
	l.write("overrides = \"" + overrides + "\"")
	l.start()
	c := l.client()
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	require.NoError(t, os.WriteFile(overrides, []byte("signed.example ignore\n"), 0o600))
	require.NoError(t, l.reload())
	require.Equal(t, "NOTFOUND ", ask(t, c, "signed.example"))

	// "if anything in them is bad the old ones stay in force and the log says why"
	require.NoError(t, os.WriteFile(overrides, []byte("unsigned.example ignore\nsigned.example nonsense\n"), 0o600))
	require.Error(t, l.reload())
	require.Equal(t, "NOTFOUND ", ask(t, c, "signed.example"))
	require.Equal(t, unsignedPolicy, ask(t, c, "unsigned.example"))
	require.Contains(t, l.log.String(), overrides+":2: ")
}

func TestBadReloadKeepsTheOldSettings(t *testing.T) {
	l := newLab(t, "policy.unsigned_mx = \"ignore\"").start()
	c := l.client()
	require.Equal(t, "NOTFOUND ", ask(t, c, "unsigned.example"))
	// The first line is good and would change the answer; the second one is bad.
	l.write("policy.unsigned_mx = \"secure\"\npolicy.mixed_mx = \"maybe\"")
	require.Error(t, l.reload())
	require.Equal(t, "NOTFOUND ", ask(t, c, "unsigned.example"))
	require.Contains(t, l.log.String(), l.config+":2: policy.mixed_mx: ")
	require.False(t, l.daemon.last.Load().OK)
	require.Equal(t, "ignore", l.daemon.loaded.Load().Policy.UnsignedMX)
	for line := range strings.Lines(l.log.String()) {
		require.Contains(t, line, "level=", "one line for one message")
	}

	require.NoError(t, os.Remove(l.config))
	require.Error(t, l.reload(), "a named file must exist")

	l.write("policy.unsigned_mx = \"secure\"")
	require.NoError(t, l.reload())
	require.Equal(t, unsignedPolicy, ask(t, c, "unsigned.example"))
	require.True(t, l.daemon.last.Load().OK)
}

func TestSettingsThatNeedARestartAreKept(t *testing.T) {
	l := newLab(t, "").start()
	old := *l.daemon.loaded.Load()
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	other := strings.NewReplacer("/sock\"", "/sock2\"", "state_dir = \"\"", "state_dir = \"/nonexistent\"", "socket = \"\"", "socket = \"/nonexistent/admin\"").Replace(string(text)) +
		"metrics.listen = \"127.0.0.1:1\"\nhttp.listen = \"127.0.0.1:2\"\nserver.socket_mode = \"0666\"\nserver.socket_group = \"0\"\nlog.format = \"json\"\npolicy.mixed_mx = \"ignore\"\n"
	require.NoError(t, os.WriteFile(l.config, []byte(other), 0o600))
	require.NoError(t, l.reload())
	want := old.Settings
	want.Policy.MixedMX = "ignore"
	require.Equal(t, want, l.daemon.loaded.Load().Settings)
	keys := []string{"server.listen", "server.socket_mode", "server.socket_group", "cache.state_dir", "admin.socket", "http.listen", "metrics.listen", "log.format"}
	require.Equal(t, keys, l.daemon.last.Load().Restart)
	for _, key := range keys {
		require.Contains(t, l.log.String(), "setting="+key)
	}
}

func TestReloadChangesTheLog(t *testing.T) {
	l := newLab(t, "log.level = \"warn\"").start()
	c := l.client()
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	require.NotContains(t, l.log.String(), "msg=decision")
	l.write("log.level = \"info\"\nlog.lookups = \"all\"")
	require.NoError(t, l.reload())
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	require.Eventually(t, func() bool { return strings.Contains(l.log.String(), "msg=decision") }, testTimeout, 1e6)
}

// "signals: SIGHUP storms under load": every lookup is answered correctly while settings change back and forth.
func TestManyReloadsUnderLoad(t *testing.T) {
	l := newLab(t, "").start()
	const clients, signals = 4, 200
	stop, finished := make(chan struct{}), make(chan int, clients)
	for range clients {
		c := l.client()
		go func() {
			n := 0
			defer func() { finished <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := c.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: "signed.example"})
				if err != nil || r.String() != signedPolicy {
					t.Errorf("%s %v", r, err)
					return
				}
				n++
			}
		}()
	}
	for i := range signals {
		if i%2 == 0 {
			l.write("policy.mixed_mx = \"ignore\"")
		} else {
			l.write("policy.mixed_mx = \"nonsense\"")
		}
		select {
		case l.hangup <- syscall.SIGHUP:
		default: // one is waiting: storms are one reload
		}
	}
	require.Eventually(t, func() bool { return l.daemon.last.Load() != nil && len(l.hangup) == 0 }, testTimeout, 1e6)
	close(stop)
	for range clients {
		require.Positive(t, <-finished)
	}
	require.EqualValues(t, clients, l.daemon.server.Stats().Accepted)
	require.Equal(t, 1, l.dns.Asked("signed.example", dns.TypeMX))
}

// "if anything in them is bad the old ones stay in force": also if it is not the settings that are bad, but what they
// depend on. None of the new settings is then in force, and the next reload works.
func TestReloadThatFailsHalfWay(t *testing.T) {
	l := newLab(t, "")
	l.options.ResolvConf = filepath.Join(l.dir, "resolv.conf")
	require.NoError(t, syscall.Mkfifo(l.options.ResolvConf, 0o600))
	l.start()
	c := l.client()
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	next := "policy.unsigned_mx = \"ignore\"\nport26.exclude_domains = [\"signed.example\"]\nport26.port = 2626\n" +
		"server.listen = [\"unix:" + l.path() + "\"]\ncache.state_dir = \"\"\nadmin.socket = \"\"\n"
	require.NoError(t, os.WriteFile(l.config, []byte(next), 0o600))
	require.ErrorContains(t, l.reload(), "not a regular file")
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"), "of the previous server")
	require.Equal(t, unsignedPolicy, ask(t, c, "unsigned.example"))
	own, _, err := l.daemon.site.Own(t.Context(), "signed.example", dns.Effort{})
	require.NoError(t, err)
	require.False(t, own, "exclude_domains of the new settings")
	require.Equal(t, 26, l.daemon.loaded.Load().Port26.Port)
	require.Equal(t, []string{l.dns.Addr()}, l.daemon.stub.State().Servers)

	l.write("policy.unsigned_mx = \"ignore\"")
	require.NoError(t, l.reload())
	require.Equal(t, "NOTFOUND ", ask(t, c, "unsigned.example"))
}
