package daemon

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/testkit"
	"github.com/policyd/policyd/socketmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout is for steps that take almost no time on an idle machine.
const testTimeout = 30 * time.Second

// lab is a daemon that runs, with its resolver and its settings file.
type lab struct {
	t        *testing.T
	dns      *dnstest.Server
	dir      string
	config   string
	log      *testkit.Log
	hangup   chan os.Signal
	options  Options
	daemon   *Daemon
	interval time.Duration // the interval between checks of the sockets; 0: as in production
	stop     context.CancelFunc
	finished chan error
}

// newLab makes settings that listen on a socket in the lab's directory; text comes after them, at the top of
// the file in its first lines if it has no table.
func newLab(t *testing.T, text string) *lab {
	t.Helper()
	l := &lab{t: t, dns: dnstest.New(t), dir: t.TempDir(), log: &testkit.Log{}, hangup: make(chan os.Signal, 1), finished: make(chan error, 1)}
	l.config = filepath.Join(l.dir, "policyd.toml")
	l.write(text)
	l.options = Options{ConfigPath: l.config, Version: "test", Stderr: l.log, Hangup: l.hangup}
	l.dns.Set("signed.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 starttls-a.signed.example."}})
	l.dns.Set("unsigned.example", dns.TypeMX, dnstest.Answer{Records: []string{"MX 10 starttls-a.unsigned.example."}})
	return l
}

// path is where the lab's daemon listens.
func (l *lab) path() string { return filepath.Join(l.dir, "sock") }

// write writes the settings, with dotted keys, so that their order does not matter.
func (l *lab) write(text string) {
	l.t.Helper()
	all := text + "\nserver.listen = [\"unix:" + l.path() + "\"]\ndns.servers = [\"" + l.dns.Addr() + "\"]\ncache.state_dir = \"\"\nadmin.socket = \"\"\n"
	// In one step, as editors do: the daemon must not read half a file.
	require.NoError(l.t, os.WriteFile(l.config+"~", []byte(all), 0o600))
	require.NoError(l.t, os.Rename(l.config+"~", l.config))
}

// start runs the daemon until the test ends, or stop is called.
func (l *lab) start() *lab {
	l.t.Helper()
	var err error
	l.daemon, err = New(l.options)
	require.NoError(l.t, err)
	if l.interval != 0 {
		l.daemon.interval = l.interval
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(l.t.Context())
	go func() { l.finished <- l.daemon.Run(ctx) }()
	l.t.Cleanup(func() {
		l.stop()
		select {
		case err := <-l.finished:
			l.finished <- err
		case <-time.After(testTimeout):
			l.t.Error("the daemon does not stop")
		}
	})
	require.Eventually(l.t, func() bool { return l.daemon.Listening() != nil }, testTimeout, time.Millisecond, "%s", l.log)
	// A lookup before the self-test has ended may be repeated after it.
	require.Eventually(l.t, func() bool {
		return l.daemon.loaded.Load().Mode == "off" || l.daemon.stub.State().Result == stub.Validating
	}, testTimeout, time.Millisecond)
	return l
}

// reload reads the settings again.
func (l *lab) reload() error {
	_, err := l.daemon.Reload()
	return err
}

// end waits for the daemon to end.
func (l *lab) end() error {
	l.t.Helper()
	select {
	case err := <-l.finished:
		l.finished <- err
		return err
	case <-time.After(testTimeout):
		l.t.Fatal("the daemon does not stop")
		return nil
	}
}

func (l *lab) client() *socketmap.Client {
	l.t.Helper()
	c, err := socketmap.Dial(l.t.Context(), "unix:"+l.path())
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask asks for a TLS policy.
func ask(t *testing.T, c *socketmap.Client, key string) string {
	t.Helper()
	r, err := c.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: key})
	require.NoError(t, err)
	return r.String()
}

const (
	signedPolicy   = "OK secure match=starttls-a.signed.example servername=hostname"
	unsignedPolicy = "OK secure match=starttls-a.unsigned.example servername=hostname"
)

func TestServes(t *testing.T) {
	l := newLab(t, "").start()
	c := l.client()
	require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	require.Equal(t, "NOTFOUND ", ask(t, c, "plain.example"))
	r, err := c.Lookup(t.Context(), socketmap.Request{Map: "nonsense", Key: "signed.example"})
	require.NoError(t, err)
	require.Equal(t, socketmap.StatusPerm, r.Status)
	require.Equal(t, []string{"unix:" + l.path()}, l.daemon.Listening())
	require.Equal(t, stub.Validating, l.daemon.stub.State().Result)
	require.EqualValues(t, 1, l.daemon.server.Stats().Accepted)
	l.stop()
	require.NoError(t, l.end())
	require.NoFileExists(t, l.path())
}

// "mode = "off" sends no DNS query": no lookup does, and no self-test. A reload switches it on and off.
func TestModeOffSendsNoQuery(t *testing.T) {
	l := newLab(t, `mode = "off"`).start()
	c := l.client()
	require.Equal(t, "NOTFOUND ", ask(t, c, "signed.example"))
	require.Contains(t, l.log.String(), "every lookup is answered NOTFOUND")
	require.Zero(t, l.dns.Queries())
	require.Zero(t, l.dns.Asked("", dns.TypeNS))
	for range 3 {
		l.write("")
		require.NoError(t, l.reload())
		require.Eventually(t, func() bool { return l.daemon.stub.State().Result == stub.Validating }, testTimeout, time.Millisecond)
		require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
		l.write(`mode = "off"`)
		require.NoError(t, l.reload())
		require.Equal(t, "NOTFOUND ", ask(t, c, "signed.example"))
	}
	require.Equal(t, 1, l.dns.Asked("signed.example", dns.TypeMX))
}

// "SIGTERM: in-flight lookups are answered."
func TestStopAnswersWhatHasBegun(t *testing.T) {
	l := newLab(t, "")
	l.dns.Set("slow.example", dns.TypeMX, dnstest.Answer{Secure: true, Delay: 300 * time.Millisecond, Records: []string{"MX 10 starttls-a.slow.example."}})
	l.start()
	busy, idle := l.client(), l.client()
	require.Equal(t, "NOTFOUND ", ask(t, idle, "plain.example"))
	answer := make(chan string, 1)
	go func() {
		r, err := busy.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: "slow.example"})
		if err != nil {
			answer <- err.Error()
			return
		}
		answer <- r.String()
	}()
	require.Eventually(t, func() bool { return l.dns.Asked("slow.example", dns.TypeMX) > 0 }, testTimeout, time.Millisecond)
	l.stop()
	require.Equal(t, "OK secure match=starttls-a.slow.example servername=hostname", <-answer)
	require.NoError(t, l.end())
	_, err := idle.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: "plain.example"})
	require.Error(t, err, "the idle connection is closed")
}

// A lookup that takes longer than drain_timeout does not keep the daemon from stopping.
func TestStopDoesNotWaitForever(t *testing.T) {
	l := newLab(t, "server.drain_timeout = \"50ms\"\ndns.timeout = \"100ms\"")
	l.dns.Set("dead.example", dns.TypeMX, dnstest.Answer{Drop: true})
	l.start()
	c := l.client()
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		r, err := c.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: "dead.example"})
		if err == nil && r.Status != socketmap.StatusTemp {
			t.Errorf("answered %s", r)
		}
	}()
	require.Eventually(t, func() bool { return l.dns.Asked("dead.example", dns.TypeMX) > 0 }, testTimeout, time.Millisecond)
	l.stop()
	require.NoError(t, l.end())
	<-cut
	require.Contains(t, l.log.String(), "drain_timeout")
}

// "All listeners are opened before anything is served": one that cannot be opened closes the others.
func TestBusyPort(t *testing.T) {
	var lc net.ListenConfig
	busy, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, busy.Close()) }()
	_, port, err := net.SplitHostPort(busy.Addr().String())
	require.NoError(t, err)

	l := newLab(t, "")
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.config, bytes.Replace(text, []byte("sock\"]"), []byte("sock\", \"127.0.0.1:"+port+"\"]"), 1), 0o600))
	d, err := New(l.options)
	require.NoError(t, err)
	err = d.Run(t.Context())
	require.ErrorContains(t, err, "cannot listen on 127.0.0.1:"+port)
	require.ErrorContains(t, err, "ss -lntxp")
	require.NoFileExists(t, l.path())

	require.NoError(t, os.WriteFile(l.config, bytes.Replace(text, []byte("sock\"]"), []byte("none/sock\"]"), 1), 0o600))
	d, err = New(l.options)
	require.NoError(t, err)
	require.ErrorContains(t, d.Run(t.Context()), "create the directory, or change the path")
}

func TestPassedListenersReplaceThoseOfTheSettings(t *testing.T) {
	l := newLab(t, "")
	var lc net.ListenConfig
	tcp, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	unix, err := lc.Listen(t.Context(), "unix", filepath.Join(l.dir, "passed"))
	require.NoError(t, err)
	l.options.Passed = []net.Listener{tcp, unix}
	l.start()
	for _, address := range []string{tcp.Addr().String(), "unix:" + filepath.Join(l.dir, "passed")} {
		c, err := socketmap.Dial(t.Context(), address)
		require.NoError(t, err)
		require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
		require.NoError(t, c.Close())
	}
	require.NoFileExists(t, l.path())
}

// "if the directory cannot be used: log one warning naming the cause, continue without persistence"
func TestStateDirectoryThatCannotBeUsed(t *testing.T) {
	l := newLab(t, "")
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	file := filepath.Join(l.dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.WriteFile(l.config, bytes.Replace(text, []byte(`state_dir = ""`), []byte(`state_dir = "`+file+`/state"`), 1), 0o600))
	l.start()
	require.Equal(t, signedPolicy, ask(t, l.client(), "signed.example"))
	for _, name := range []string{"mtasts.db", "promises.db", "probes.db", "report.db"} { // one warning per file that is not kept
		require.Regexp(t, `level=WARN msg="state database cannot be written; .*/`+name+` .*not a directory`, l.log.String())
	}
	require.Equal(t, 4, strings.Count(l.log.String(), "level=WARN"), "%s", l.log)
}

func TestNothingToListenOn(t *testing.T) {
	l := newLab(t, "")
	require.NoError(t, os.WriteFile(l.config, []byte("[server]\nlisten = []\n"), 0o600))
	d, err := New(l.options)
	require.NoError(t, err)
	err = d.Run(t.Context())
	require.ErrorContains(t, err, ":2: server.listen: the list is empty")
}

// "Never a local part": not at any level, not in any map, not in a malformed key.
func TestNoLocalPartInTheLog(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			l := newLab(t, "log.level = \"debug\"\nlog.lookups = \"all\"\nlog.format = \""+format+"\"\nport26.mode = \"always\"").start()
			c := l.client()
			for _, m := range []string{"tls-policy", "tls-policy-tlsrpt", "transport", "nonsense"} {
				for _, key := range []string{
					"Secret.Person+x@signed.example", `"secret person"@signed.example`, "secret@a@signed.example",
					"secret@", "secret@[192.0.2.1]", "secret@\xff\xfe", "secret@signed.example\x00", "@secret@unsigned.example",
				} {
					_, err := c.Lookup(t.Context(), socketmap.Request{Map: m, Key: key})
					require.NoError(t, err)
				}
			}
			l.stop()
			require.NoError(t, l.end())
			require.Contains(t, l.log.String(), "signed.example")
			require.NotContains(t, strings.ToLower(l.log.String()), "secret")
			require.NotContains(t, strings.ToLower(l.log.String()), "person")
		})
	}
}
