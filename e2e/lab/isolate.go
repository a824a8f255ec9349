package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
)

// insideEnv marks a program that runs inside the namespaces, and names its directory there.
const insideEnv = "POLICYD_LAB_DIR"

// Isolated runs main in network, mount, process and host name spaces of its own and returns its exit code: the
// program starts itself again inside them. Root only. The host keeps its files, its ports and its processes; all
// that main starts ends with it, and all that it mounts or writes is removed, however it ends.
func Isolated(main func() int) int {
	if dir := os.Getenv(insideEnv); dir != "" {
		if code := exitCode("the lab cannot be set up", must.Catch(func() { furnish(dir) })); code != 0 {
			return code
		}
		return main()
	}
	code, err := again(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		return exitCode("the lab needs namespaces of its own (root only)", err)
	}
	return code
}

// Main runs f, isolated or not, with a context that ends when the program is interrupted, and returns the exit code. It
// prints the error that ends f after the name of the program.
func Main(name string, isolated bool, f func(context.Context)) int {
	main := func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return exitCode(name, must.Catch(func() { f(ctx) }))
	}
	if isolated {
		return Isolated(main)
	}
	return main()
}

// exitCode prints an error, if there is one.
func exitCode(name string, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// Tests runs the tests of a package, each in namespaces of its own and beside the others: they mostly wait. The output
// of a test is printed when it has ended.
func Tests(m interface{ Run() int }) int {
	flag.Parse()
	if os.Getenv(insideEnv) != "" || flag.Lookup("test.list").Value.String() != "" {
		return Isolated(m.Run)
	}
	return exitCode("lab", must.Catch(func() {
		pattern, subtests, nested := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
		list := must.Get(exec.Command(os.Args[0], "-test.list", cmp.Or(pattern, ".")).Output())
		names := strings.Fields(string(list))
		var mu sync.Mutex
		must.Each(len(names), 2*runtime.NumCPU(), func(i int) {
			only := "^" + names[i] + "$"
			if nested {
				only += "/" + subtests
			}
			var output bytes.Buffer
			code, err := again(append(slices.Clone(os.Args[1:]), "-test.run", only), &output, &output)
			mu.Lock()
			defer mu.Unlock()
			_, _ = output.WriteTo(os.Stdout)
			must.Be(err == nil && code == 0, "%s: exit status %d, %v", names[i], code, err)
		})
	}))
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, exe, arguments...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
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
	if err := cmd.Run(); cmd.ProcessState == nil {
		return 1, err
	}
	if !cmd.ProcessState.Exited() {
		return 1, fmt.Errorf("the lab ended by %v", cmd.ProcessState)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// furnish gives the namespaces their own /etc, mail directories, /proc, loopback interface and host name.
func furnish(dir string) {
	mount := func(what, over, kind string, flags uintptr, data string) {
		must.Do(os.NewSyscallError("mount "+over, unix.Mount(what, over, kind, flags, data)))
	}
	mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") // in a chroot it must be a mount point
	mount("tmpfs", dir, "tmpfs", 0, "mode=0755")
	mount("proc", "/proc", "proc", 0, "")
	// A copy of all of /etc, because resolv.conf may be a link to anywhere.
	must.Get(daemon.Output(context.Background(), "", "cp", "-a", "/etc/.", filepath.Join(dir, "etc")))
	for from, over := range map[string]string{
		"etc": "/etc", "spool": "/var/spool/postfix", "lib": "/var/lib/postfix", "policyd": "/var/lib/policyd",
	} {
		from = filepath.Join(dir, from)
		must.Do(os.MkdirAll(from, 0o755))
		if _, err := os.Stat(over); err == nil { // otherwise it is in the lab's own directory, see Dir
			mount(from, over, "", unix.MS_BIND, "")
		}
	}
	must.Do(unix.Sethostname([]byte(Hostname)))
	// All of 127.0.0.0/8 is this machine once lo is up, without an address each: Postfix and policyd see 127.0.0.1 as
	// their own and the rest as other hosts. The same is done for IPv6: ::1 and a network lead here without being
	// addresses of the interface, and so they are other hosts too.
	for _, args := range []string{
		"link set lo up",
		"-6 address add " + ownV6 + "/128 dev lo nodad",
		"-6 address del ::1/128 dev lo",
		"-6 route add local ::1/128 dev lo",
		"-6 route add local " + v6Network + " dev lo",
	} {
		must.Get(daemon.Output(context.Background(), "", "ip", strings.Fields(args)...))
	}
	must.Do(os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0))
}
