package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// settings are the defaults except for paths, for what is on loopback here, and for the fields of setup.
const settings = `overrides = "DIR/overrides"
[server]
listen = ["unix:DIR/s", "%[1]s"]
%[2]s
[dns]
servers = [%[3]s]
[cache]
state_dir = %[4]q
%[5]s
[port26]
port = %[6]d
probe_special_addresses = true
[tls]
ca_file = %[7]q
[admin]
socket = "DIR/admin"
[metrics]
listen = %[8]q
`

// setup is how the policyd of a fault differs from the default.
type setup struct {
	// server and cache are further lines of these tables.
	server, cache string
	// resolvConf takes the servers from resolv.conf.
	resolvConf bool
	// state is where the state directory is: "" is a directory of its own, otherwise the size of a file system for it.
	state string
	// passed means that the listener is passed, as policyd.socket does, and outlives the process.
	passed bool
	// memory is the limit of a control group for the process, in bytes.
	memory int64
	daemon.Command
}

// policyd is the policyd of a fault.
type policyd struct {
	*daemon.Process
	tcp, metrics string
	state        string
	group        string
}

// start starts a policyd. It is stopped at the end, and must be running then.
func (s *scene) start(ctx context.Context, with setup) (*policyd, error) {
	dir, err := s.subdir()
	if err != nil {
		return nil, err
	}
	at := s.loopback().String()
	p := &policyd{tcp: at + ":2526", metrics: at + ":9526", state: filepath.Join(dir, "state")}
	if with.state != "" {
		if err := s.tmpfs(p.state, with.state); err != nil {
			return nil, err
		}
		p.state = filepath.Join(p.state, "policyd")
	}
	if with.memory > 0 {
		if p.group, err = s.memoryGroup(with.memory); err != nil {
			return nil, err
		}
		with.Group = p.group
	}
	address := "unix:DIR/s"
	if with.passed {
		var listener *os.File
		if listener, address, err = s.passed(dir); err != nil {
			return nil, err
		}
		with.Listeners = []*os.File{listener}
	}
	servers := strconv.Quote(s.world.dns.Addr())
	if with.resolvConf {
		servers = ""
	}
	with.Path, with.Address = s.config.policyd, address
	p.Process, err = daemon.Policyd(ctx, dir, fmt.Sprintf(settings, p.tcp, with.server, servers, p.state, with.cache,
		smtpsPort, s.world.caFile, p.metrics), with.Command)
	if err == nil {
		s.atEnd(p.finish)
	}
	return p, err
}

// passed makes a listener as policyd.socket does.
func (s *scene) passed(dir string) (*os.File, string, error) {
	path := dir + "/passed"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, "", err
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, "", err
	}
	s.atEnd(file.Close)
	return file, "unix:" + path, nil
}

// again starts another process in the place of one that has ended.
func (p *policyd) again(ctx context.Context) error {
	next, err := daemon.Run(ctx, p.Command)
	if err != nil {
		return err
	}
	p.Process = next
	// With a passed listener a connection does not show that the process is ready for a signal; an answer does. Like
	// Postfix, try again when a connection is closed without an answer.
	return poll(ctx, "policyd answers again", func() (bool, error) {
		_, err := p.Ask(ctx, policyOf("*"))
		return err == nil, nil
	})
}

// finish stops a policyd that must be running and sound.
func (p *policyd) finish() error {
	err := p.Signal(syscall.Signal(0)) // an error if it has ended
	if err == nil {
		err = p.Stop()
	}
	if log := p.Log.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		err = errors.Join(err, errors.New("policyd panicked"))
	}
	if err != nil {
		return fmt.Errorf("policyd did not end well: %w; its log ends:\n%s", err, p.Log.Tail(20, ""))
	}
	return nil
}

// best asks until every question has its best answer, and returns how long that took.
func (p *policyd) best(ctx context.Context, questions []question) (time.Duration, error) {
	begun := time.Now()
	for _, q := range questions {
		var last socketmap.Reply
		err := poll(ctx, fmt.Sprintf("%s %s: %q", q.request.Map, q.request.Key, q.best), func() (bool, error) {
			r, err := p.Ask(ctx, q.request)
			last = r
			if err == nil && !q.isBest(r) && !q.allows(r) {
				return false, fmt.Errorf("%s %s: %q is weaker than the facts", q.request.Map, q.request.Key, r)
			}
			return err == nil && q.isBest(r), nil
		})
		if err != nil {
			return 0, fmt.Errorf("%w; the last answer is %q", err, last)
		}
	}
	return time.Since(begun), nil
}

// recover returns how long it took until all answers were the best again.
func (p *policyd) recover(ctx context.Context, questions []question) (string, error) {
	const seconds = 25 * time.Second
	took, err := p.best(ctx, questions)
	if err == nil && took > seconds {
		err = fmt.Errorf("the best answers took %v to come back", took)
	}
	return fmt.Sprintf("back after %.1f s", took.Seconds()), err
}

// logged checks that words are in the log, see fault.log.
func (p *policyd) logged(words string) error {
	const most = 20
	n := 0
	first, also, _ := strings.Cut(words, " … ")
	for _, line := range p.Log.Lines(0) {
		if strings.Contains(line, first) && strings.Contains(line, also) {
			n++
		}
	}
	if n == 0 || n > most {
		return fmt.Errorf("%q is in the log %d times; it ends:\n%s", words, n, p.Log.Tail(20, ""))
	}
	return nil
}

// awaitLog waits until words are in the log.
func (p *policyd) awaitLog(ctx context.Context, words string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, _, err := p.Log.Wait(ctx, 0, func(line string) bool { return strings.Contains(line, words) })
	if err != nil {
		err = fmt.Errorf("waiting for %q in the log: %w", words, err)
	}
	return err
}

// metric reads the sum of a metric over its labels.
func (p *policyd) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	samples := regexp.MustCompile(`(?m)^`+name+`(?:\{.*\})? (\S+)$`).FindAllSubmatch(text, -1)
	if samples == nil {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	sum := 0.0
	for _, sample := range samples {
		value, err := strconv.ParseFloat(string(sample[1]), 64)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}

// files is the number of open descriptors.
func (p *policyd) files() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	return len(entries), err
}

// filesBack waits until no more descriptors are open than before, except for a few of background work.
func (p *policyd) filesBack(ctx context.Context, before int) error {
	const few = 12
	return poll(ctx, fmt.Sprintf("%d descriptors again", before), func() (bool, error) {
		now, err := p.files()
		return now <= before+few, err
	})
}
