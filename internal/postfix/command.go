package postfix

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
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
	// Postconf is the path of postconf(1).
	Postconf string
	// ConfigDirectory is passed as -c; "" means the default of Postfix.
	ConfigDirectory string
}

// Find returns the commands in the directory of postconf. If that is "", it searches PATH and then the sbin directories,
// which the PATH of a service may lack. The error is ErrNotInstalled if there are none.
func Find(postconf, configDirectory string) (Commands, error) {
	if postconf != "" {
		return Commands{postconf, configDirectory}, nil
	}
	for _, name := range []string{"postconf", "/usr/sbin/postconf", "/usr/local/sbin/postconf", "/sbin/postconf"} {
		path, err := exec.LookPath(name)
		if err == nil {
			return Commands{path, configDirectory}, nil
		}
	}
	return Commands{}, ErrNotInstalled
}

// Postmap returns the path of postmap(1).
func (c Commands) Postmap() string { return filepath.Join(filepath.Dir(c.Postconf), "postmap") }

// Parameters returns the values of parameters, with all $names expanded. The error names a parameter that is unknown.
func (c Commands) Parameters(ctx context.Context, names ...string) (map[string]string, error) {
	out, err := c.Show(ctx, append([]string{"-x"}, names...)...)
	if err != nil {
		return nil, err
	}
	values := maps.Collect(assignments(out))
	for _, name := range names {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("%s did not print %s", c.Postconf, name)
		}
	}
	return values, nil
}

// assignments yields the lines such as "name = value" that postconf(1) prints.
func assignments(text string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range strings.Lines(text) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), " =")
			if ok && !yield(name, strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// Show returns what postconf(1) prints.
func (c Commands) Show(ctx context.Context, args ...string) (string, error) {
	p := process{path: c.Postconf, args: c.args(args...)}
	if err := p.run(ctx); err != nil {
		return "", err
	}
	return p.stdout.String(), nil
}

// Query looks up keys without spaces in a table, such as hash:/etc/postfix/relay, and returns the first key that is found,
// "" for none. postmap(1) has the same exit status for "not found" and "failed", so any message on standard error counts
// as a failure, unless a key was found.
func (c Commands) Query(ctx context.Context, table string, keys []string) (string, error) {
	p := process{path: c.Postmap(), args: c.args("-q", "-", table), stdin: strings.Join(keys, "\n") + "\n"}
	err := p.run(ctx)
	if p.stdout.Len() > 0 {
		key, _, _ := strings.Cut(p.stdout.String(), "\t")
		return key, nil
	}
	const noneFound = 1
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == noneFound && p.complaint() == "" && ctx.Err() == nil {
		return "", nil
	}
	if err == nil {
		err = fmt.Errorf("%s -q - %s: exit status 0 without an answer", p.path, table)
	}
	return "", err
}

func (c Commands) args(args ...string) []string {
	if c.ConfigDirectory != "" {
		return append([]string{"-c", c.ConfigDirectory}, args...)
	}
	return args
}

// environment is that of a command. MAIL_CONFIG is passed on, as Postfix's own commands do; -c has priority over it.
func (c Commands) environment() []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin", "LC_ALL=C"}
	if dir := cmp.Or(c.ConfigDirectory, os.Getenv("MAIL_CONFIG")); dir != "" {
		env = append(env, "MAIL_CONFIG="+dir)
	}
	return env
}

// process is one run of a command.
type process struct {
	path           string
	args           []string
	stdin          string
	limit          int // of standard output in bytes; 0 means 4 MiB
	stdout, stderr limited
}

// run runs the command. The error has its message on standard error.
func (p *process) run(ctx context.Context) error {
	const longest = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	p.stdout.limit, p.stderr.limit = cmp.Or(p.limit, 4<<20), 4<<10
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(p.stdin), &p.stdout, &p.stderr
	cmd.Env = Commands{}.environment()
	cmd.WaitDelay = time.Second // a child that keeps the pipes open
	err := cmd.Run()
	switch {
	case p.stdout.overflow:
		return fmt.Errorf("%s: too much output", p.path)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", p.path, ctx.Err())
	case err != nil:
		if complaint := p.complaint(); complaint != "" {
			return fmt.Errorf("%s: %w", complaint, err)
		}
		return fmt.Errorf("%s: %w", p.path, err)
	}
	return nil
}

// complaint returns the last line of standard error, except warnings about lines of main.cf.
func (p *process) complaint() string {
	last := ""
	for line := range strings.Lines(p.stderr.String()) {
		line = strings.TrimSpace(line)
		remark := strings.Contains(line, ": warning: ") && strings.Contains(line, "/main.cf, line ")
		if line != "" && !remark {
			last = line
		}
	}
	return last
}

// limited keeps the beginning of the data written to it. It has no ReadFrom, which io.Copy would use instead of Write.
type limited struct {
	kept     bytes.Buffer
	limit    int
	overflow bool
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	if room := l.limit - l.Len(); len(b) > room {
		l.overflow = true
		_, _ = l.kept.Write(b[:max(room, 0)])
		return len(b), nil
	}
	return l.kept.Write(b)
}

// Len and String are those of what was kept.
func (l *limited) Len() int       { return l.kept.Len() }
func (l *limited) String() string { return l.kept.String() }
