package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// settings are the defaults, metrics and log included, but for the paths. The log goes to a file.
const settings = `overrides = "DIR/overrides"

[server]
listen = ["%s", "unix:DIR/policyd.sock"]

[dns]
servers = ["%s"]

[cache]
max_entries = %d
state_dir = "DIR"

[admin]
socket = "DIR/admin.sock"

[metrics]
listen = "%s"
`

// server is a process under measurement: a policyd, or the constant server.
type server struct {
	tcp, unix string
	metrics   string // "" for none
	pid       int
	stop      func() error
}

// subdir makes a directory for one process.
func (b *bench) subdir() (string, error) {
	b.used++
	dir := filepath.Join(b.dir, strconv.Itoa(b.used))
	return dir, os.Mkdir(dir, 0o700)
}

// process says how a policyd is started.
type process struct {
	// entries are max_entries; 0 means the default.
	entries int
	// policies are how many MTA-STS policies there are on disk.
	policies int
}

// prepare makes its directory.
func (b *bench) prepare(p process) (string, error) {
	dir, err := b.subdir()
	if err == nil && p.policies > 0 {
		err = storePolicies(dir, p.policies)
	}
	return dir, err
}

// startPolicyd starts one with an empty cache, that asks the resolver at that address.
func (b *bench) startPolicyd(ctx context.Context, resolver string, p process) (*server, error) {
	dir, err := b.prepare(p)
	if err != nil {
		return nil, err
	}
	return b.startIn(ctx, dir, resolver, p)
}

// startIn starts one in a directory that is prepared.
func (b *bench) startIn(ctx context.Context, dir string, resolver string, p process) (*server, error) {
	if p.entries == 0 {
		p.entries = 400_000
	}
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	d, err := daemon.Start(ctx, daemon.Options{
		Binary: b.config.policyd, Dir: dir, Listen: "unix:DIR/policyd.sock",
		Settings: fmt.Sprintf(settings, ports[0], resolver, p.entries, ports[1]),
	})
	if err != nil {
		return nil, err
	}
	return &server{tcp: ports[0], unix: d.Address, metrics: ports[1], pid: d.PID(), stop: d.Stop}, nil
}

// freePorts returns addresses on loopback that were free just now.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := listen(ctx, "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // not before all are found
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// startConstant starts the constant server, in a process of its own as policyd is.
func (b *bench) startConstant(ctx context.Context, reply string) (*server, error) {
	dir, err := b.subdir()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	s := &server{tcp: ports[0], unix: "unix:" + filepath.Join(dir, "sock")}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := daemon.Run(ctx, daemon.Command{
		Path: self, Arguments: []string{"-constant", s.tcp + "," + s.unix, "-reply", reply},
		Output: filepath.Join(dir, "log"), Address: s.unix,
	})
	if err != nil {
		return nil, err
	}
	s.pid, s.stop = p.PID(), p.Stop
	return s, nil
}

// fill looks up every domain once, over so many connections.
func (s *server) fill(ctx context.Context, connections int, domains []string) error {
	next := make(chan string)
	failed := make(chan error, connections)
	for range connections {
		go func() { failed <- s.lookUp(ctx, next) }()
	}
	var errs []error
	ended := 0
	for _, d := range domains {
		select {
		case next <- d:
			continue
		case err := <-failed:
			errs = append(errs, err)
			ended++
		}
		break
	}
	close(next)
	for ; ended < connections; ended++ {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func (s *server) lookUp(ctx context.Context, domains <-chan string) error {
	c, err := socketmap.Dial(ctx, s.unix)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for d := range domains {
		r, err := c.Lookup(ctx, socketmap.Request{Map: "tls-policy", Key: d})
		if err != nil {
			return err
		}
		if r.Status != socketmap.StatusOK && r.Status != socketmap.StatusNotFound {
			return fmt.Errorf("%s: %s", d, r)
		}
	}
	return nil
}
