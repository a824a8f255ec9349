package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
)

// enter mounts a tree of unpacked packages (see e2e/fetch) and returns where it is. Inside it, /lab is the directory of
// the lab, /etc is a copy with the users and groups of this machine, and each of writable is an empty directory.
func enter(tree, dir string, writable ...string) string {
	tree = must.Get(filepath.Abs(tree))
	if _, err := os.Stat(filepath.Join(tree, "usr")); err != nil {
		must.Do(fmt.Errorf("lab: no packages in %s: run make deps: %w", tree, err))
	}
	at, etc := filepath.Join(dir, "system"), filepath.Join(dir, "system-etc")
	must.Get(daemon.Output(context.Background(), "", "cp", "-a", filepath.Join(tree, "etc"), etc))
	for _, file := range []string{"passwd", "group"} {
		must.Do(write(filepath.Join(etc, file), string(must.Get(os.ReadFile(filepath.Join("/etc", file))))))
	}
	mounts := [][2]string{{tree, "/"}, {etc, "/etc"}, {dir, "/lab"}, {"/dev", "/dev"}, {"/proc", "/proc"}}
	for _, path := range writable {
		mounts = append(mounts, [2]string{filepath.Join(dir, "system-"+strings.ReplaceAll(path, "/", "-")), path})
	}
	for _, m := range mounts {
		over := filepath.Join(at, m[1])
		must.Do(os.MkdirAll(m[0], 0o755), os.MkdirAll(over, 0o755))
		must.Do(os.NewSyscallError("mount "+over, unix.Mount(m[0], over, "", unix.MS_BIND, "")))
	}
	return at
}

// FirstUser is the number of the first user that Enter adds, and of its group.
const FirstUser = 64000

// Enter mounts a tree of unpacked packages for a mail server other than Postfix, and returns where it is. users are
// added to those of this machine, and DNSSEC is trusted there.
func (l *Lab) Enter(tree string, users []string, writable ...string) (at string, err error) {
	err = must.Catch(func() {
		at = enter(tree, l.Dir, writable...)
		for i, name := range users {
			id := FirstUser + i
			add(filepath.Join(at, "etc/passwd"), fmt.Sprintf("%s:x:%d:%d::/:/bin/false\n", name, id, id))
			add(filepath.Join(at, "etc/group"), fmt.Sprintf("%s:x:%d:\n", name, id))
		}
		must.Do(
			write(filepath.Join(at, "etc/resolv.conf"), "nameserver "+l.Resolver.Addr.Addr().String()+
				"\noptions trust-ad\n"),
			write(filepath.Join(at, "etc/hosts"), "127.0.0.1 "+Hostname+" localhost\n"))
	})
	return at, err
}

func add(path, text string) { must.Do(write(path, string(must.Get(os.ReadFile(path)))+text)) }

func enterPostfix(tree, dir string) string {
	at := enter(tree, dir, "/var/spool/postfix", "/var/lib/postfix")
	maps := must.Get(os.ReadFile(filepath.Join(at, "usr/share/postfix/dynamicmaps.cf")))
	must.Do(write(filepath.Join(at, "etc/postfix/dynamicmaps.cf"), string(maps)))
	return at
}
