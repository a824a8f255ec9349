package daemon

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/testkit"
	"github.com/policyd/policyd/socketmap"
)

// answering waits until a lookup over a path is answered.
func answering(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := socketmap.Dial(t.Context(), "unix:"+path)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		r, err := c.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: "signed.example"})
		return err == nil && r.String() == signedPolicy
	}, testTimeout, time.Millisecond)
}

// A unix socket that is removed, or replaced by a dead one, is made again. Connections stay.
func TestALostSocketIsMadeAgain(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"removed": os.Remove,
		"moved":   func(path string) error { return os.Rename(path, path+"~") },
		"replaced by a socket without a listener": func(path string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + "~", Net: "unix"})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			if err := l.Close(); err != nil {
				return err
			}
			return os.Rename(path+"~", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "")
			l.interval = 5 * time.Millisecond
			l.start()
			c := l.client()
			require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
			require.NoError(t, lose(l.path()))
			answering(t, l.path())
			require.Equal(t, signedPolicy, ask(t, c, "signed.example"), "over the connection that was open before")
			require.Eventually(t, func() bool { return len(l.daemon.socketWarnings()) == 0 }, testTimeout, time.Millisecond)
			require.Equal(t, []string{"unix:" + l.path()}, l.daemon.Listening())
			require.NotContains(t, l.log.String(), "cannot listen", "it is made again immediately")
			require.Contains(t, l.log.String(), `msg="clients cannot reach a unix socket"`)
			l.stop()
			require.NoError(t, l.end())
			require.NoFileExists(t, l.path())
		})
	}
}

// A live socket of another process at the path is left alone, and status reports that Postfix does not reach policyd.
func TestALiveSocketInItsPlaceIsLeftAlone(t *testing.T) {
	l := newLab(t, "")
	l.interval = 5 * time.Millisecond
	l.start()
	other, err := net.Listen("unix", l.path()+"~")
	require.NoError(t, err)
	require.NoError(t, os.Rename(l.path()+"~", l.path()))
	require.Eventually(t, func() bool {
		return strings.Contains(l.log.String(), "cannot listen; trying again") &&
			strings.Contains(strings.Join(l.daemon.Status().Warnings, "\n"), "Postfix cannot reach policyd at unix:"+l.path()+": ")
	}, testTimeout, time.Millisecond)
	require.NoError(t, other.Close())
	answering(t, l.path())
}

// Only systemd can create its sockets again, so the daemon ends. Without a service manager it continues.
func TestALostSocketOfSystemdEndsTheDaemon(t *testing.T) {
	pass := func(t *testing.T, l *lab) string {
		path := filepath.Join(l.dir, "passed")
		passed, err := net.Listen("unix", path)
		require.NoError(t, err)
		passed.(*net.UnixListener).SetUnlinkOnClose(false)
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		l.options.Passed = []net.Listener{tcp, passed}
		l.interval = 5 * time.Millisecond
		return path
	}
	t.Run("with a service manager", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
		l := newLab(t, "")
		path := pass(t, l)
		l.start()
		require.NoError(t, os.Remove(path))
		require.ErrorIs(t, l.end(), ErrLostSocket)
	})
	t.Run("before the start", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
		l := newLab(t, "")
		require.NoError(t, os.Remove(pass(t, l)))
		d, err := New(l.options)
		require.NoError(t, err)
		d.interval = l.interval
		require.ErrorIs(t, d.Run(t.Context()), ErrLostSocket)
	})
	t.Run("noticed at the end", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
		l := newLab(t, "")
		path := pass(t, l)
		l.interval = time.Hour
		l.start()
		require.NoError(t, os.Remove(path))
		l.stop()
		require.ErrorIs(t, l.end(), ErrLostSocket)
	})
	t.Run("an abstract socket, unix(7), has no path that could be lost", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
		l := newLab(t, "")
		passed, err := net.Listen("unix", "@"+filepath.Base(l.dir)+strconv.Itoa(os.Getpid()))
		require.NoError(t, err)
		l.options.Passed = []net.Listener{passed}
		l.interval = time.Hour
		l.start()
		require.Empty(t, l.daemon.socketWarnings())
		l.stop()
		require.NoError(t, l.end())
	})
	t.Run("without a service manager", func(t *testing.T) {
		t.Setenv("NOTIFY_SOCKET", "")
		l := newLab(t, "")
		path := pass(t, l)
		l.start()
		require.NoError(t, os.Remove(path))
		require.Eventually(t, func() bool { return strings.Contains(l.log.String(), "clients cannot reach a unix socket") }, testTimeout, time.Millisecond)
		require.Contains(t, strings.Join(l.daemon.Status().Warnings, "\n"), "the socket "+path+" was removed")
		l.stop()
		require.NoError(t, l.end())
	})
}

// "answering Postfix is worth more": a listener for the operator that cannot be opened is opened as soon as it can be.
func TestListenersOfTheOperatorAreRetried(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", testkit.Port(t)))
	require.NoError(t, err)
	l := operated(t, "")
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	adminDir := filepath.Join(l.dir, "later")
	changed := strings.NewReplacer("127.0.0.1:0", busy.Addr().String(), l.adminPath(), adminDir+"/admin.sock").Replace(string(text))
	require.NoError(t, os.WriteFile(l.config, []byte(changed), 0o600))
	l.start()
	require.Equal(t, signedPolicy, ask(t, l.client(), "signed.example"), "Postfix is answered")
	warnings := strings.Join(l.daemon.Status().Warnings, "\n")
	require.Contains(t, warnings, "admin.socket: cannot listen on unix:"+adminDir+"/admin.sock, trying again: ")
	require.Contains(t, warnings, "metrics.listen: cannot listen on "+busy.Addr().String()+", trying again: ")
	require.Equal(t, 2, strings.Count(l.log.String(), "cannot listen; trying again"), "%s", l.log)

	require.NoError(t, busy.Close())
	require.NoError(t, os.Mkdir(adminDir, 0o700))
	require.Eventually(t, func() bool { return len(l.daemon.Status().Warnings) == 0 }, testTimeout, 10*time.Millisecond)
	require.FileExists(t, adminDir+"/admin.sock")
	resp, err := http.Get("http://" + busy.Addr().String() + "/-/healthy")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}

// The admin socket comes back too.
func TestALostAdminSocketIsMadeAgain(t *testing.T) {
	t.Parallel()
	l := operated(t, "")
	l.interval = 5 * time.Millisecond
	l.start()
	_, err := admin.GetStatus.Ask(t.Context(), l.adminPath(), struct{}{})
	require.NoError(t, err)
	require.NoError(t, os.Remove(l.adminPath()))
	require.Eventually(t, func() bool {
		_, err := admin.GetStatus.Ask(t.Context(), l.adminPath(), struct{}{})
		return err == nil
	}, testTimeout, 10*time.Millisecond)
}

func TestListenersOfSystemdReplaceServerListen(t *testing.T) {
	t.Parallel()
	l := newLab(t, "")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.options.Passed = []net.Listener{tcp}
	l.start()
	want := "server.listen: unix:" + l.path() + " is not used, because systemd passes the listeners of policyd.socket"
	require.Contains(t, strings.Join(l.daemon.Status().Warnings, "\n"), want)
	require.Contains(t, l.log.String(), want)
	set := l.daemon.loaded.Load()
	require.Empty(t, set.UnusedListen(set.Server.Listen), "the same address")
	require.Empty(t, set.UnusedListen(nil), "nothing was passed")
	none := *set
	none.Server.Listen = nil
	require.Empty(t, none.UnusedListen([]string{"127.0.0.1:2526"}), "the listeners of systemd are enough")
	require.Equal(t, []string{"server.listen: the list is empty, so policyd does not start without listeners from systemd"}, none.UnusedListen(nil))
}

// SIGTERM ends the process even if a part does not end, for example on a file system that does not answer.
func TestStopWhileAReloadDoesNotEnd(t *testing.T) {
	l := newLab(t, "server.drain_timeout = \"10ms\"").start()
	l.daemon.reloading.Lock() // as a reload that waits for a file system
	l.hangup <- os.Interrupt
	require.Eventually(t, func() bool { return len(l.hangup) == 0 }, testTimeout, time.Millisecond)
	began := time.Now()
	l.stop()
	require.NoError(t, l.end())
	require.Less(t, time.Since(began), testTimeout/2)
	require.Contains(t, l.log.String(), "stopping without waiting for a part that does not end")
	l.daemon.reloading.Unlock()
	// The reload must end within this test, because it would notify the service manager of a later test.
	require.Eventually(t, func() bool { return l.daemon.last.Load() != nil }, testTimeout, time.Millisecond)
	l.daemon.reloading.Lock()
	defer l.daemon.reloading.Unlock()
}

// A FIFO in place of a file fails the reload, and the next one works.
func TestReloadReadsRegularFilesOnly(t *testing.T) {
	l := newLab(t, "")
	overrides, ca := filepath.Join(l.dir, "overrides"), filepath.Join(l.dir, "ca.pem")
	require.NoError(t, os.WriteFile(overrides, nil, 0o600))
	l.write("overrides = \"" + overrides + "\"")
	l.start()
	for _, path := range []string{overrides, l.config, ca} {
		if path == ca {
			l.write("overrides = \"" + overrides + "\"\ntls.ca_file = \"" + ca + "\"")
		}
		kept, _ := os.ReadFile(path)
		_ = os.Remove(path)
		require.NoError(t, syscall.Mkfifo(path, 0o600))
		require.ErrorContains(t, l.reload(), "not a regular file: p", path)
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.WriteFile(path, kept, 0o600))
	}
	l.write("overrides = \"" + overrides + "\"")
	require.NoError(t, l.reload())
}
