package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// patience is for a machine that is busy; what takes seconds otherwise may take this long.
const patience = 45 * time.Second

// settings are the defaults except for paths, for what is on loopback here, and for what setup says.
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
	// passed says that the listener is passed, as policyd.socket does, and outlives the process.
	passed bool
	// memory is the limit of a control group for it, in bytes.
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
	// On a passed listener a connection does not show that the process is ready for a signal; an answer does.
	_, err = p.Ask(ctx, policyOf("*"))
	return err
}

// finish stops a policyd that must be running and well.
func (p *policyd) finish() error {
	select {
	case <-p.Ended():
		return fmt.Errorf("policyd has ended; its log ends:\n%s", tail(p.Log.String()))
	default:
	}
	if err := p.Stop(); err != nil {
		return fmt.Errorf("policyd did not end well: %w; its log ends:\n%s", err, tail(p.Log.String()))
	}
	if log := p.Log.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		return fmt.Errorf("policyd panicked; its log ends:\n%s", tail(log))
	}
	return nil
}

func tail(log string) string {
	const longest = 2000
	return log[max(0, len(log)-longest):]
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

// recover returns how long it took until all answers were the best again. Back-offs of minutes would show.
func (p *policyd) recover(ctx context.Context, questions []question) (string, error) {
	const seconds = 25 * time.Second
	took, err := p.best(ctx, questions)
	if err == nil && took > seconds {
		err = fmt.Errorf("the best answers came back after %v only", took)
	}
	return fmt.Sprintf("back after %.1f s", took.Seconds()), err
}

// logged checks that words are in the log, see fault.log.
func (p *policyd) logged(words string) error {
	const most = 20
	n := 0
	first, also, _ := strings.Cut(words, " … ")
	for line := range strings.Lines(p.Log.String()) {
		if strings.Contains(line, first) && strings.Contains(line, also) {
			n++
		}
	}
	if n == 0 || n > most {
		return fmt.Errorf("%q is in the log %d times; it ends:\n%s", words, n, tail(p.Log.String()))
	}
	return nil
}

// awaitLog waits until words are in the log so many times.
func (p *policyd) awaitLog(ctx context.Context, words string, times int) error {
	return poll(ctx, "log "+words, func() (bool, error) { return strings.Count(p.Log.String(), words) >= times, nil })
}

// metric reads the sum of a metric over its labels.
func (p *policyd) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
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
	sum, found := 0.0, false
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}

// memory is the resident memory in MiB, proc_pid_status(5).
func (p *policyd) memory() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	line, _, _ := strings.Cut(after, "kB")
	kib, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	return kib / 1024, err
}

// files is how many descriptors are open.
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
