package lab

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// insideEnv marks a program that is inside, and names the directory that it was given there.
const insideEnv = "POLICYD_LAB_DIR"

// Isolated runs main in network, mount, process and host name spaces of its own and returns its exit code: the
// program starts itself again inside them. Root only. The host keeps its files, its ports and its processes; all
// that main starts ends with it, and all that it mounts or writes is removed, however it ends.
func Isolated(main func() int) int {
	if dir := os.Getenv(insideEnv); dir != "" {
		if err := furnish(dir); err != nil {
			fmt.Fprintln(os.Stderr, "the lab cannot be set up:", err)
			return 1
		}
		return main()
	}
	code, err := again(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the lab needs namespaces of its own (root only):", err)
		return 1
	}
	return code
}

// Tests runs the tests of a package, each in namespaces of its own and beside the others: they mostly wait. The output
// of a test is printed when it has ended.
func Tests(m interface{ Run() int }) int {
	flag.Parse()
	if os.Getenv(insideEnv) != "" || flag.Lookup("test.list").Value.String() != "" {
		return Isolated(m.Run)
	}
	pattern, subtests, nested := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	list, err := exec.Command(os.Args[0], "-test.list", cmp.Or(pattern, ".")).Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests cannot be listed:", err)
		return 1
	}
	var mu sync.Mutex
	var tests errgroup.Group
	tests.SetLimit(2 * runtime.NumCPU())
	for name := range strings.FieldsSeq(string(list)) {
		tests.Go(func() error {
			only := "^" + name + "$"
			if nested {
				only += "/" + subtests
			}
			var output bytes.Buffer
			code, err := again(append(slices.Clone(os.Args[1:]), "-test.run", only), &output, &output)
			mu.Lock()
			defer mu.Unlock()
			_, _ = output.WriteTo(os.Stdout)
			if err == nil && code != 0 {
				err = fmt.Errorf("%s: exit status %d", name, code)
			}
			return err
		})
	}
	if err := tests.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// again starts this program inside new namespaces.
func again(arguments []string, stdout, stderr io.Writer) (int, error) {
	if os.Getuid() != 0 {
		return 1, errors.New("run it as root")
	}
	dir, err := os.MkdirTemp("", "policyd-lab-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.Remove(dir) }() // empty on the outside: inside, a tmpfs was mounted on it
	exe, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(exe, arguments...)
	cmd.Env = append(os.Environ(), insideEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		// It is the first process of its PID namespace: when it ends, all others end.
		Pdeathsig: syscall.SIGKILL,
	}
	// The death signal is sent when the thread ends that started the process, not the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	close(signals)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if !cmd.ProcessState.Exited() {
		return 1, fmt.Errorf("the lab ended by %v", cmd.ProcessState)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// furnish gives the namespaces their own /etc, mail directories, /proc, loopback interface and host name.
func furnish(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("/ cannot be made private (in a chroot it must be a mount point): %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	// A copy of all of /etc, because resolv.conf may be a link to anywhere.
	if out, err := exec.Command("cp", "-a", "/etc/.", filepath.Join(dir, "etc")).CombinedOutput(); err != nil {
		return fmt.Errorf("copying /etc: %w: %s", err, out)
	}
	for from, over := range map[string]string{
		"etc": "/etc", "spool": "/var/spool/postfix", "lib": "/var/lib/postfix", "policyd": "/var/lib/policyd",
	} {
		from = filepath.Join(dir, from)
		if err := os.MkdirAll(from, 0o755); err != nil {
			return err
		}
		if _, err := os.Stat(over); errors.Is(err, fs.ErrNotExist) {
			continue // it then lies in the lab's own directory, see Dir
		}
		if err := unix.Mount(from, over, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", over, err)
		}
	}
	if err := unix.Sethostname([]byte(Hostname)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	return loopback()
}

// loopback brings lo up. All of 127.0.0.0/8 is then this machine, without an address each: Postfix and policyd
// see 127.0.0.1 as their own and the rest as other hosts. The same is done for IPv6: ::1 and a network lead here
// without being addresses of the interface, and so they are other hosts too.
func loopback() error {
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"-6", "address", "add", ownV6 + "/128", "dev", "lo", "nodad"},
		{"-6", "address", "del", "::1/128", "dev", "lo"},
		{"-6", "route", "add", "local", "::1/128", "dev", "lo"},
		{"-6", "route", "add", "local", v6Network, "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0)
}
