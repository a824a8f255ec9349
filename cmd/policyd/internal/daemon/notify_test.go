package daemon

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// manager is a service manager that records its notifications.
func manager(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Setenv("NOTIFY_SOCKET", path)
	messages := make(chan string, 1000)
	ended := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	go func() {
		defer close(ended)
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	return messages
}

// receive waits for a message that begins with a word, and returns it. It skips other messages.
func receive(t *testing.T, messages <-chan string, word string) string {
	t.Helper()
	for deadline := time.After(testTimeout); ; {
		select {
		case m := <-messages:
			if strings.HasPrefix(m, word) {
				return m
			}
		case <-deadline:
			t.Fatalf("no %s", word)
		}
	}
}

// Type=notify, sd_notify(3).
func TestServiceManagerIsNotified(t *testing.T) {
	messages := manager(t)
	l := newLab(t, "").start()
	require.Equal(t, "READY=1\nSTATUS=Answering, mode enforce", receive(t, messages, "READY=1"))
	require.NoError(t, l.reload())
	require.Equal(t, "RELOADING=1\nSTATUS=Reloading", receive(t, messages, "RELOADING=1"))
	require.Equal(t, "READY=1\nSTATUS=Answering, mode enforce", receive(t, messages, "READY=1"))
	l.write("nonsense")
	require.Error(t, l.reload())
	receive(t, messages, "RELOADING=1")
	require.Contains(t, receive(t, messages, "READY=1"), "the last reload failed")
	l.stop()
	require.Equal(t, "STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=15000000", receive(t, messages, "STOPPING=1"))
	require.NoError(t, l.end())
}

// hungManager starts a service manager that hangs: its socket takes no more messages. The function that it returns ends
// the manager, and waits until the notifications of a daemon that still wait have failed: they must not reach the
// manager of another test.
func hungManager(t *testing.T) (end func(*Daemon)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	full, err := net.Dial("unixgram", path)
	require.NoError(t, err)
	for err == nil {
		require.NoError(t, full.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
		_, err = full.Write([]byte("WATCHDOG=1"))
	}
	require.NoError(t, full.Close())
	t.Setenv("NOTIFY_SOCKET", path)
	t.Cleanup(func() { _ = manager.Close() })
	return func(d *Daemon) {
		require.NoError(t, manager.Close())
		d.notifying <- struct{}{}
	}
}

// SIGTERM ends a daemon whose service manager hangs.
func TestStopWhileTheServiceManagerHangs(t *testing.T) {
	end := hungManager(t)
	l := newLab(t, "server.drain_timeout = \"10ms\"").start()
	require.Equal(t, signedPolicy, ask(t, l.client(), "signed.example"))
	l.stop()
	require.NoError(t, l.end())
	require.NotContains(t, l.log.String(), "does not end", "it was drained")
	end(l.daemon)
}

// A reload takes effect, and the end of the daemon does not wait for it.
func TestReloadWhileTheServiceManagerHangs(t *testing.T) {
	end := hungManager(t)
	l := newLab(t, "server.drain_timeout = \"10ms\"").start()
	l.write("mode = \"off\"\nserver.drain_timeout = \"10ms\"")
	l.hangup <- syscall.SIGHUP
	require.Eventually(t, func() bool { return ask(t, l.client(), "signed.example") == "NOTFOUND " }, testTimeout, time.Millisecond)
	l.write("nonsense")
	require.Error(t, l.reload())
	l.stop()
	require.NoError(t, l.end())
	require.Contains(t, l.log.String(), "msg=stopped")
	end(l.daemon)
}

// A manager that recovers gets the messages in their order: a unit whose last message is RELOADING=1 would stay in that
// state. The second message waits for the first one. The third one comes at the moment at which the first one is sent.
func TestServiceManagerThatRecoversGetsTheMessagesInOrder(t *testing.T) {
	messages := manager(t)
	d, err := New(newLab(t, "").options)
	require.NoError(t, err)
	for range 5 {
		d.notifying <- struct{}{}
		d.notify("FIRST=1") // it returns when it has waited long enough
		<-d.notifying
		d.notify("SECOND=1")
		receive(t, messages, "FIRST=1") // not the late messages of another test's daemon
		receive(t, messages, "SECOND=1")
	}
}

func TestWatchdogIsNotified(t *testing.T) {
	messages := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	newLab(t, "").start()
	for range 3 {
		require.Equal(t, "WATCHDOG=1", receive(t, messages, "WATCHDOG"))
	}
}

// A daemon that does not answer is not alive.
func TestWatchdogIsNotNotifiedByADaemonThatDoesNotAnswer(t *testing.T) {
	messages := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	l := newLab(t, "")
	d, err := New(l.options)
	require.NoError(t, err)
	never := make(chan struct{})
	defer close(never)
	d.server.Handler = socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		<-never
		return socketmap.NotFound()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.watchdog(ctx) }()
	require.Eventually(t, func() bool { return strings.Count(l.log.String(), "does not answer") >= 2 }, testTimeout, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, messages)
}
