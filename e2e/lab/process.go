package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one program that the lab runs.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *lines
	ended  chan struct{} // closed when it is gone
}

// start runs a program and keeps its output. The program ends with the lab at the latest.
func start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, output: newLines(), ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.WaitDelay = time.Second // its children may keep the pipe open
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait()
		p.output.end()
		close(p.ended)
	}()
	return p, nil
}

// stop sends a signal to a process, and SIGKILL if it does not end.
func (p *process) stop(s syscall.Signal) {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.ended:
	case <-time.After(endWithin):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// context is for waiting until a program has started: it ends with the program, and after a minute.
func (p *process) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

const endWithin = 10 * time.Second

// lines is the output of a program; callers can wait for a line.
type lines struct {
	mu      sync.Mutex
	partial []byte
	all     []string
	over    bool
	news    chan struct{} // closed and replaced at each change
}

func newLines() *lines { return &lines{news: make(chan struct{})} }

// Write adds output.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			break
		}
		l.all = append(l.all, string(l.partial[:i]))
		l.partial = l.partial[i+1:]
	}
	l.changed()
	return len(p), nil
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.changed()
}

// changed wakes all who wait; l.mu is held.
func (l *lines) changed() {
	close(l.news)
	l.news = make(chan struct{})
}

// since returns the lines from the n-th on and the next n.
func (l *lines) since(n int) ([]string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[n:len(l.all):len(l.all)], len(l.all)
}

var errEnded = errors.New("the program ended")

// wait returns the first line from the n-th on that fits, and the number of the line after it.
func (l *lines) wait(ctx context.Context, n int, fits func(string) bool) (string, int, error) {
	for {
		l.mu.Lock()
		all, over, news := l.all, l.over, l.news
		l.mu.Unlock()
		for ; n < len(all); n++ {
			if fits(all[n]) {
				return all[n], n + 1, nil
			}
		}
		if over {
			return "", n, errEnded
		}
		select {
		case <-news:
		case <-ctx.Done():
			return "", n, ctx.Err()
		}
	}
}

// tail returns the last lines that contain any of the words, to show after a failure.
func (l *lines) tail(count int, words ...string) string {
	all, _ := l.since(0)
	var kept []string
	for _, line := range all {
		for _, w := range words {
			if strings.Contains(line, w) {
				kept = append(kept, line)
				break
			}
		}
	}
	return strings.Join(kept[max(0, len(kept)-count):], "\n")
}

// until calls yes repeatedly until it returns true.
func until(ctx context.Context, what string, yes func() bool) error {
	const pause = 20 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("lab: waiting until %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// run runs a program to its end.
func run(ctx context.Context, program string, args ...string) (string, error) {
	path, err := look(program)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("lab: %s: %w: %s", program, err, out)
	}
	return string(out), nil
}
