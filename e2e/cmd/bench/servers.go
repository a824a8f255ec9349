package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// server is a process under measurement.
type server struct {
	*daemon.Process
	table string // the name of the socketmap for TLS policies
}

// The defaults, log and metrics included, except for paths.
const settings = `overrides = "DIR/overrides"
[server]
listen = ["unix:DIR/sock"]
[dns]
servers = [%q]
[cache]
max_entries = %d
state_dir = "DIR/state"
[admin]
socket = "DIR/admin"
`

const usualEntries = 400_000

// startPolicyd starts a policyd with an empty cache.
func (b *bench) startPolicyd(ctx context.Context, resolver string, entries int) (*server, error) {
	dir, err := b.subdir()
	if err != nil {
		return nil, err
	}
	p, err := daemon.Policyd(ctx, dir, fmt.Sprintf(settings, resolver, entries),
		daemon.Command{Path: b.policyd, Address: "unix:DIR/sock"})
	return &server{p, "tls-policy"}, err
}

// startConstant starts the constant server.
func (b *bench) startConstant(ctx context.Context, reply string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.startOther(ctx, "tls-policy", self, "-constant", "DIR/sock", "-reply", reply)
}

// startPeer starts postfix-tlspol with its quiet log.
func (b *bench) startPeer(ctx context.Context, resolver string) (*server, error) {
	config := filepath.Join(b.dir, "peer.yaml")
	text := "server:\n  address: unix:DIR/sock\n  log-level: error\n  prefetch: true\n  cache-file: " +
		"DIR/cache.db\ndns:\n  address: " + resolver + "\n"
	dir := filepath.Join(b.dir, strconv.Itoa(b.used+1))
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		return nil, err
	}
	return b.startOther(ctx, "QUERY", b.peer, "-config", config)
}

// startOther starts a server that listens on DIR/sock.
func (b *bench) startOther(ctx context.Context, table, path string, arguments ...string) (*server, error) {
	dir, err := b.subdir()
	if err != nil {
		return nil, err
	}
	for i := range arguments {
		arguments[i] = strings.ReplaceAll(arguments[i], "DIR", dir)
	}
	p, err := daemon.Run(ctx, daemon.Command{
		Path: path, Arguments: arguments, Address: "unix:" + filepath.Join(dir, "sock"),
	})
	return &server{p, table}, err
}

// fill looks up every domain once over so many connections.
func (s *server) fill(ctx context.Context, connections int, domains []string) error {
	next := make(chan string, len(domains))
	for _, d := range domains {
		next <- d
	}
	close(next)
	failed := make(chan error, connections)
	for range connections {
		go func() { failed <- s.lookUp(ctx, next) }()
	}
	var errs []error
	for range connections {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func (s *server) lookUp(ctx context.Context, domains <-chan string) error {
	c, err := socketmap.Dial(ctx, s.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for d := range domains {
		r, err := c.Lookup(ctx, socketmap.Request{Map: s.table, Key: d})
		if err != nil {
			return err
		}
		if r.Status != socketmap.StatusOK && r.Status != socketmap.StatusNotFound {
			return fmt.Errorf("%s: %s", d, r)
		}
	}
	return nil
}

// awake waits until a server has tested its resolver and answers.
func (s *server) awake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.fill(ctx, 1, []string{"awake.example"})
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", s.Path, err)
		}
	}
}

// cpu is the processor time that the process has used, proc_pid_stat(5).
func (s *server) cpu() (time.Duration, error) {
	const tick = 10 * time.Millisecond // 1/USER_HZ, the same on all Linux
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID()))
	if err != nil {
		return 0, err
	}
	// After the name, which is in parentheses: state is field 3, utime 14, stime 15.
	_, rest, _ := strings.Cut(string(text), ") ")
	var state string
	var user, system int64
	var skip [10]string
	if _, err := fmt.Sscan(rest, &state, &skip[0], &skip[1], &skip[2], &skip[3], &skip[4], &skip[5], &skip[6],
		&skip[7], &skip[8], &skip[9], &user, &system); err != nil {
		return 0, fmt.Errorf("the status of process %d: %w", s.PID(), err)
	}
	return time.Duration(user+system) * tick, nil
}
