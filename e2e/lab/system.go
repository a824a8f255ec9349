package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// enter mounts a tree of unpacked packages (see e2e/fetch) and returns where it is. Inside it, /lab is the directory of
// the lab, /etc is a copy with the users and groups of this machine, and each of writable is an empty directory.
func enter(tree, dir string, writable ...string) (string, error) {
	tree, err := filepath.Abs(tree)
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	if _, err := os.Stat(filepath.Join(tree, "usr")); err != nil {
		return "", fmt.Errorf("lab: no packages in %s: run make deps: %w", tree, err)
	}
	at := filepath.Join(dir, "system")
	etc := filepath.Join(dir, "system-etc")
	if out, err := exec.Command("cp", "-a", filepath.Join(tree, "etc"), etc).CombinedOutput(); err != nil {
		return "", fmt.Errorf("lab: copying %s: %w: %s", tree, err, out)
	}
	for _, file := range []string{"passwd", "group"} {
		data, err := os.ReadFile(filepath.Join("/etc", file))
		if err == nil {
			err = write(filepath.Join(etc, file), string(data))
		}
		if err != nil {
			return "", fmt.Errorf("lab: %w", err)
		}
	}
	mounts := [][2]string{{tree, "/"}, {etc, "/etc"}, {dir, "/lab"}, {"/dev", "/dev"}, {"/proc", "/proc"}}
	for _, path := range writable {
		mounts = append(mounts, [2]string{filepath.Join(dir, "system-"+strings.ReplaceAll(path, "/", "-")), path})
	}
	for _, m := range mounts {
		over := filepath.Join(at, m[1])
		if err := errors.Join(os.MkdirAll(m[0], 0o755), os.MkdirAll(over, 0o755)); err != nil {
			return "", fmt.Errorf("lab: %w", err)
		}
		if err := unix.Mount(m[0], over, "", unix.MS_BIND, ""); err != nil {
			return "", fmt.Errorf("lab: %s: %w", over, err)
		}
	}
	return at, nil
}

// FirstUser is the number of the first user that Enter adds, and of its group.
const FirstUser = 64000

// Enter mounts a tree of unpacked packages for a mail server other than Postfix, and returns where it is. users are added to
// those of this machine, and DNSSEC is trusted there.
func (l *Lab) Enter(tree string, users []string, writable ...string) (string, error) {
	at, err := enter(tree, l.Dir, writable...)
	if err != nil {
		return "", err
	}
	for i, name := range users {
		err = errors.Join(err,
			add(filepath.Join(at, "etc/passwd"), fmt.Sprintf("%s:x:%d:%d::/:/bin/false\n", name, FirstUser+i, FirstUser+i)),
			add(filepath.Join(at, "etc/group"), fmt.Sprintf("%s:x:%d:\n", name, FirstUser+i)))
	}
	return at, errors.Join(err,
		write(filepath.Join(at, "etc/resolv.conf"), "nameserver "+l.Resolver.Addr.Addr().String()+"\noptions trust-ad\n"),
		write(filepath.Join(at, "etc/hosts"), "127.0.0.1 "+Hostname+" localhost\n"))
}

// add appends to a file.
func add(path, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return write(path, string(data)+text)
}

// enterPostfix enters a tree that contains Postfix.
func enterPostfix(tree, dir string) (string, error) {
	at, err := enter(tree, dir, "/var/spool/postfix", "/var/lib/postfix")
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(at, "usr/share/postfix/dynamicmaps.cf"))
	if err == nil {
		err = write(filepath.Join(at, "etc/postfix/dynamicmaps.cf"), string(data))
	}
	return at, err
}
