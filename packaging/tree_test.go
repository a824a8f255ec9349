//go:build e2e

package packaging_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// waitLimit bounds every wait; a busy machine needs much of it.
const waitLimit = 2 * time.Minute

// run runs a command of the host in the top directory and returns what it prints. It must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
	return string(out)
}

// tree is a clean Debian in a directory. Booted, it is a machine of its own: its own processes, files, host name and
// loopback, and no other network.
type tree struct {
	dir    string
	leader int // the process id of its systemd; zero: it is not booted
}

// newTree installs the smallest Debian there is, with systemd. Postfix is not installed and can be, without a network.
func newTree(t *testing.T) *tree {
	t.Helper()
	d := &tree{dir: filepath.Join(t.TempDir(), "policyd-test")}
	run(t, "mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv",
		"--skip=cleanup/apt",
		`--customize-hook=chroot "$1" apt-get install -qq -y -d --no-install-recommends postfix`,
		"bookworm", d.dir)
	d.write(t, "/etc/resolv.conf", "nameserver 127.0.0.1\n")
	return d
}

// path returns the path on the host of a file in the tree.
func (d *tree) path(file string) string { return filepath.Join(d.dir, file) }

func (d *tree) write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(d.path(file)), 0o755))
	require.NoError(t, os.WriteFile(d.path(file), []byte(text), 0o644))
}

func (d *tree) read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(d.path(file))
	require.NoError(t, err)
	return string(text)
}

// command is a shell script inside the tree, whether it is booted or not.
func (d *tree) command(ctx context.Context, script string) *exec.Cmd {
	args := []string{"chroot", d.dir}
	if d.leader != 0 {
		args = []string{"nsenter", "--target", strconv.Itoa(d.leader), "--all"}
	}
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], "/bin/sh", "-euc", script)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// sh runs a shell script inside the tree and returns what it prints, without the last newline. It must succeed.
func (d *tree) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := d.command(t.Context(), script).CombinedOutput()
	require.NoError(t, err, "%s\n%s", script, out)
	return strings.TrimSuffix(string(out), "\n")
}

// eventually waits until a script succeeds.
func (d *tree) eventually(t *testing.T, script string) {
	t.Helper()
	require.Eventually(t, func() bool { return d.command(t.Context(), script).Run() == nil },
		waitLimit, 100*time.Millisecond, script)
}

// boot starts systemd inside the tree, until the end of the test.
func (d *tree) boot(t *testing.T) {
	t.Helper()
	cmd := exec.Command("systemd-nspawn", "--quiet", "--boot", "--directory="+d.dir, "--register=no", "--keep-unit",
		"--private-network", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe")
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, UseCgroupFD: true, CgroupFD: cgroup(t)}
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // its messages go to the console
	t.Cleanup(func() {
		if d.leader != 0 {
			d.poweroff(t)
		}
		_ = cmd.Process.Kill()
		<-ended
	})
	require.Eventually(t, func() bool {
		d.leader = leader(cmd.Process.Pid)
		select {
		case <-ended:
			return true
		default:
			return d.leader != 0
		}
	}, waitLimit, 50*time.Millisecond)
	require.NotZero(t, d.leader, "the tree does not boot: %s", &console)
	const running = "systemctl is-system-running | grep -Eq 'running|degraded'"
	if !assert.Eventually(t, func() bool { return d.command(t.Context(), running).Run() == nil }, waitLimit, 100*time.Millisecond) {
		doing, _ := d.command(t.Context(), "systemctl is-system-running; systemctl --no-pager list-jobs; systemctl --no-pager --failed").CombinedOutput()
		require.Fail(t, "the machine does not come up", "%s\n%s", doing, &console)
	}
}

// cgroup makes a control group for this machine alone, and returns its descriptor.
func cgroup(t *testing.T) int {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^\S+ (\S+) cgroup2 `).FindSubmatch(mounts)
	require.NotNil(t, found, "cgroup2 is not mounted: systemd cannot be booted here")
	dir := filepath.Join(string(found[1]), "policyd-test-"+strconv.Itoa(os.Getpid()))
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { _ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run() })
	fd, err := os.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = fd.Close() })
	return int(fd.Fd())
}

// leader returns the child of systemd-nspawn with its own PID namespace, the first process of the machine; 0 if there
// is none yet, only perhaps the process that creates it and then exits.
func leader(nspawn int) int {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(nspawn) + "/task/" + strconv.Itoa(nspawn) + "/children")
	if err != nil {
		return 0
	}
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0
	}
	for field := range strings.FieldsSeq(string(text)) {
		theirs, err := os.Readlink("/proc/" + field + "/ns/pid")
		if pid, bad := strconv.Atoi(field); err == nil && bad == nil && theirs != ours {
			return pid
		}
	}
	return 0
}

// poweroff ends the machine and leaves the tree.
func (d *tree) poweroff(t *testing.T) {
	t.Helper()
	leader := d.leader
	_ = d.command(context.Background(), "systemctl poweroff").Run()
	d.leader = 0
	require.Eventually(t, func() bool {
		_, err := os.Stat("/proc/" + strconv.Itoa(leader))
		return os.IsNotExist(err)
	}, waitLimit, 50*time.Millisecond)
}
