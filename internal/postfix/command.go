package postfix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNotInstalled is returned if no Postfix is installed on this machine.
var ErrNotInstalled = errors.New("postfix: not installed")

// Commands runs Postfix's own commands: without a shell, with a timeout, and with limits on their output.
type Commands struct {
	Postconf        string // the path of postconf(1); the other commands are in the same directory
	ConfigDirectory string // the directory of main.cf; "": the default of Postfix
}

// Find returns the commands in the directory of postconf. If that is "", it searches PATH and then the sbin
// directories, which the PATH of a service may lack. The error is ErrNotInstalled if there are none.
func Find(postconf, configDirectory string) (Commands, error) {
	if postconf != "" {
		return Commands{postconf, configDirectory}, nil
	}
	for _, name := range []string{"postconf", "/usr/sbin/postconf", "/usr/local/sbin/postconf", "/sbin/postconf"} {
		if path, err := exec.LookPath(name); err == nil {
			return Commands{path, configDirectory}, nil
		}
	}
	return Commands{}, ErrNotInstalled
}

// beside returns the path of another command in the directory of postconf.
func (c Commands) beside(name string) string { return filepath.Join(filepath.Dir(c.Postconf), name) }

// Read returns the settings that postconf(1) prints for each of these lists of arguments. The error names a parameter
// among them that is unknown.
func (c Commands) Read(ctx context.Context, lists ...string) (Settings, error) {
	s := Settings{}
	for _, list := range lists {
		args := strings.Fields(list)
		out, _, err := c.run(ctx, process{path: c.Postconf, args: args})
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " ="); ok {
				s[name] = strings.TrimSpace(value)
			}
		}
		for _, arg := range args {
			if _, ok := s[arg]; !ok && arg[0] != '-' {
				return nil, fmt.Errorf("%s did not print %s", c.Postconf, arg)
			}
		}
	}
	return s, nil
}

// Query looks up keys without spaces in a table, such as hash:/etc/postfix/relay, and returns those that are found.
// postmap(1) has the same exit status for "not found" and "failed", so any message on standard error counts as a
// failure, unless a key was found.
func (c Commands) Query(ctx context.Context, table string, keys []string) (found []string, err error) {
	p := process{path: c.beside("postmap"), args: []string{"-q", "-", table}, stdin: strings.Join(keys, "\n") + "\n"}
	out, complaint, err := c.run(ctx, p)
	for line := range strings.Lines(out) {
		key, _, _ := strings.Cut(line, "\t")
		found = append(found, key)
	}
	const noneStatus = 1 // the exit status if no key was found
	exit, exited := errors.AsType[*exec.ExitError](err)
	noneFound := exited && exit.ExitCode() == noneStatus && complaint == ""
	switch {
	case found != nil, noneFound:
		return found, nil
	case err == nil:
		err = fmt.Errorf("%s -q - %s: exit status 0 without an answer", p.path, table)
	}
	return nil, err
}

// process is one run of a command.
type process struct {
	path, stdin string
	args        []string
	limit       int           // the limit for standard output, in bytes; 0 means 16 MiB
	timeout     time.Duration // 0 means 10 s
}

// run returns the standard output of a command, even if it fails, and the last line of standard error, which an error
// has too. Warnings about lines of main.cf do not count.
func (c Commands) run(ctx context.Context, p process) (out, complaint string, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.timeout, 10*time.Second))
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	stdout, stderr := limited{room: cmp.Or(p.limit, 16<<20)}, limited{room: 4 << 10}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(p.stdin), &stdout, &stderr
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin", "LC_ALL=C"}
	if dir := cmp.Or(c.ConfigDirectory, os.Getenv("MAIL_CONFIG")); dir != "" {
		cmd.Env = append(cmd.Env, "MAIL_CONFIG="+dir)
	}
	cmd.WaitDelay = time.Second // a child process may keep the pipes open
	err = cmd.Run()
	for line := range strings.Lines(stderr.String()) {
		line = strings.TrimSpace(line)
		remark := strings.Contains(line, ": warning: ") && strings.Contains(line, "/main.cf, line ")
		if line != "" && !remark {
			complaint = line
		}
	}
	switch {
	case stdout.room < 0:
		err = fmt.Errorf("%s: too much output", p.path)
	case ctx.Err() != nil:
		err = fmt.Errorf("%s: %w", p.path, ctx.Err())
	case err != nil:
		err = fmt.Errorf("%s: %w", cmp.Or(complaint, p.path), err)
	}
	return stdout.String(), complaint, err
}

// limited keeps the beginning of the data written to it.
type limited struct {
	strings.Builder
	room int // the bytes that are left; negative if there were more
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	_, _ = l.Builder.Write(b[:min(len(b), max(l.room, 0))])
	l.room -= len(b)
	return len(b), nil
}
