package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

func testContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), stepTimeout)
}

// process is a running policyd serve with passed listeners.
type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer // to be read after the end
}

// serve starts one. The listeners are passed as systemd does, sd_listen_fds(3).
func serve(t *testing.T, config string, passed ...*os.File) *process {
	t.Helper()
	return serveCounted(t, config, len(passed), passed...)
}

// serveCounted starts a process whose environment announces a different number of listeners.
func serveCounted(t *testing.T, config string, n int, passed ...*os.File) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{log: &bytes.Buffer{}}
	// LISTEN_PID is that of the process, so a shell sets it and becomes the process.
	p.cmd = exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, self, "--config", config, "serve")
	p.cmd.Env = append(os.Environ(), "POLICYD_UNDER_TEST=1", "GORACE=atexit_sleep_ms=0", "LISTEN_FDS="+strconv.Itoa(n))
	p.cmd.ExtraFiles = passed
	p.cmd.Stderr = p.log
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), "%s", p.log)
}

// settingsFile makes settings with a resolver.
func settingsFile(t *testing.T) string {
	t.Helper()
	s := dnstest.New(t)
	zones(s)
	s.Set("slow.example", dns.TypeMX, dnstest.Answer{Secure: true, Delay: 300 * time.Millisecond, Records: []string{"MX 10 starttls-a.slow.example."}})
	path := filepath.Join(t.TempDir(), "policyd.toml")
	text := "dns.servers = [\"" + s.Addr() + "\"]\ncache.state_dir = \"\"\nadmin.socket = \"\"\nserver.listen = [\"unix:/nonexistent/not-used\"]\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// listeners makes a TCP and a unix listener as systemd would pass them.
func listeners(t *testing.T) (files []*os.File, addresses []string) {
	t.Helper()
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "sock")
	unix, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	a, err := tcp.File()
	require.NoError(t, err)
	b, err := unix.File()
	require.NoError(t, err)
	addresses = []string{tcp.Addr().String(), "unix:" + path}
	unix.SetUnlinkOnClose(false)
	require.NoError(t, tcp.Close())
	require.NoError(t, unix.Close())
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return []*os.File{a, b}, addresses
}

// "socket activation so that Postfix never sees a refused connection during a restart": a client that connects while no
// policyd runs is answered by the next one, and the socket of systemd is not removed.
func TestPassedListenersOutliveTheProcess(t *testing.T) {
	files, addresses := listeners(t)
	config := settingsFile(t)
	req := socketmap.Request{Map: "tls-policy", Key: "starttls.example"}
	for range 2 {
		// No process accepts: the connection waits in the backlog.
		ctx, cancel := testContext()
		early, err := socketmap.Dial(ctx, addresses[0])
		require.NoError(t, err)
		p := serve(t, config, files...)
		r, err := early.Lookup(ctx, req)
		require.NoError(t, err)
		require.Equal(t, "OK secure match=starttls-mx.starttls.example servername=hostname", r.String())
		require.NoError(t, early.Close())
		cancel()
		for _, address := range addresses {
			got, err := once(address, req)
			require.NoError(t, err)
			require.Equal(t, r.String(), got)
		}
		p.stop(t)
		require.FileExists(t, filepath.Clean(strings.TrimPrefix(addresses[1], "unix:")))
	}
}

// Neither one SIGTERM nor many of them cut off a lookup that has begun.
func TestSignalStormsDoNotLoseAnswers(t *testing.T) {
	files, addresses := listeners(t)
	p := serve(t, settingsFile(t), files...)
	_, err := once(addresses[0], socketmap.Request{Map: "tls-policy", Key: "starttls.example"})
	require.NoError(t, err)
	type result struct {
		text string
		err  error
	}
	answers := make(chan result, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		text, err := once(addresses[0], socketmap.Request{Map: "tls-policy", Key: "slow.example"})
		answers <- result{text, err}
	}()
	<-begun
	for range 20 {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	}
	got := <-answers
	require.NoError(t, got.err)
	require.Equal(t, "OK secure match=starttls-a.slow.example servername=hostname", got.text)
	for range 20 {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	require.NoError(t, p.cmd.Wait(), "%s", p.log)
	require.Contains(t, p.log.String(), "msg=reloaded")
	require.Contains(t, p.log.String(), "msg=stopped")
}

// A passed socket that does not listen is a mistake in policyd.socket, and is not ignored: the daemon does not start. A
// number of descriptors that were not passed costs neither time nor memory.
func TestPassedSocketThatIsNotAListener(t *testing.T) {
	config := settingsFile(t)
	files, addresses := listeners(t)
	datagrams, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	unixDatagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: t.TempDir() + "/sock", Net: "unixgram"})
	require.NoError(t, err)
	connected, err := net.Dial("tcp", addresses[0])
	require.NoError(t, err)
	type socket interface {
		File() (*os.File, error)
		Close() error
	}
	for name, s := range map[string]socket{
		"datagrams": datagrams, "unix datagrams": unixDatagrams, "connected": connected.(*net.TCPConn), "not passed": nil,
	} {
		passed, n := files, math.MaxInt
		if s != nil {
			file, err := s.File()
			require.NoError(t, err, name)
			defer func() { _, _ = file.Close(), s.Close() }()
			passed, n = append(slices.Clone(files), file), len(files)+1
		}
		p := serveCounted(t, config, n, passed...)
		require.Error(t, p.cmd.Wait(), name)
		require.Equal(t, 1, p.cmd.ProcessState.ExitCode(), name)
		require.Contains(t, p.log.String(), "socket 3 from systemd is not a listening stream socket", name)
		require.NotContains(t, p.log.String(), "started", name)
	}
}

// Standard error that is the journal, systemd.exec(5) on $JOURNAL_STREAM: priorities and no time.
func TestLogFitsTheJournal(t *testing.T) {
	config := settingsFile(t)
	stream, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	var st syscall.Stat_t
	require.NoError(t, syscall.Fstat(int(stream.Fd()), &st))
	require.NoError(t, os.WriteFile(config, []byte("mode = \"off\"\ncache.state_dir = \"\"\nadmin.socket = \"\"\nserver.listen = [\"127.0.0.1:0\"]\n"), 0o600))
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "--config", config, "serve")
	cmd.Env = append(os.Environ(), "POLICYD_UNDER_TEST=1", "GORACE=atexit_sleep_ms=0", fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
	cmd.Stderr = stream
	require.NoError(t, cmd.Start())
	read := func() string {
		text, err := os.ReadFile(stream.Name())
		require.NoError(t, err)
		return string(text)
	}
	require.Eventually(t, func() bool { return strings.Contains(read(), "<4>msg=settings") }, stepTimeout, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait())
	require.Contains(t, read(), "\n<6>msg=started version=devel ")
	require.NotContains(t, read(), "time=")
}

// "RestartPreventExitStatus=2": 2 is for bad settings alone. Any other failure, such as the watchdog's SIGABRT, has
// another status, so that the service is started again.
func TestACrashDoesNotLookLikeWrongSettings(t *testing.T) {
	files, addresses := listeners(t)
	p := serve(t, settingsFile(t), files...)
	_, err := once(addresses[0], socketmap.Request{Map: "tls-policy", Key: "starttls.example"})
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGABRT))
	require.Error(t, p.cmd.Wait())
	require.True(t, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled(), p.cmd.ProcessState.String())
}

// A FIFO in place of a file does not block this reload, the next one or the shutdown.
func TestAFIFOInPlaceOfTheOverrides(t *testing.T) {
	files, addresses := listeners(t)
	config := settingsFile(t)
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	overrides := filepath.Join(t.TempDir(), "overrides")
	require.NoError(t, os.WriteFile(overrides, nil, 0o600))
	require.NoError(t, os.WriteFile(config, append([]byte("overrides = \""+overrides+"\"\n"), text...), 0o600))
	p := serve(t, config, files...)
	req := socketmap.Request{Map: "tls-policy", Key: "starttls.example"}
	_, err = once(addresses[0], req)
	require.NoError(t, err)
	require.NoError(t, os.Remove(overrides))
	require.NoError(t, syscall.Mkfifo(overrides, 0o600))
	for range 3 {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	}
	_, err = once(addresses[0], req)
	require.NoError(t, err)
	p.stop(t)

	require.Error(t, serve(t, config, files...).cmd.Wait(), "at the start it is a mistake")
}

// Under socket activation, systemd starts the service again for each waiting connection: wrong settings end it only after a
// while, so that the trigger limit is not reached, and not at all if they are corrected in that time.
func TestWrongSettingsUnderSocketActivation(t *testing.T) {
	files, addresses := listeners(t)
	config := settingsFile(t)
	right, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, append([]byte("nonsense = 1\n"), right...), 0o600))
	began := time.Now()
	p := serve(t, config, files...)
	require.Error(t, p.cmd.Wait())
	require.Equal(t, exitUsage, p.cmd.ProcessState.ExitCode())
	require.GreaterOrEqual(t, time.Since(began), settingsWait)
	require.Contains(t, p.log.String(), "policyd.toml:1: unknown key nonsense")

	ctx, cancel := testContext()
	defer cancel()
	waiting, err := socketmap.Dial(ctx, addresses[0])
	require.NoError(t, err)
	p = serve(t, config, files...)
	require.NoError(t, os.WriteFile(config+".new", right, 0o600))
	require.NoError(t, os.Rename(config+".new", config), "the daemon must not read a part of the file")
	r, err := waiting.Lookup(ctx, socketmap.Request{Map: "tls-policy", Key: "starttls.example"})
	require.NoError(t, err)
	require.Equal(t, socketmap.StatusOK, r.Status)
	require.NoError(t, waiting.Close())
	p.stop(t)
}
