package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/socketmap"
)

// patience is for a machine that has much else to do; what takes seconds otherwise may take so long.
const patience = 45 * time.Second

// settings are the defaults but for the paths, for what is on loopback here, and for what setup says.
const settings = `overrides = "DIR/overrides"
[server]
listen = ["unix:DIR/s", "%[1]s"]
%[2]s
[dns]
servers = [%[3]s]
[cache]
state_dir = "%[4]s"
%[5]s
[port26]
port = %[6]d
probe_special_addresses = true
[tls]
ca_file = "%[7]s"
[admin]
socket = "DIR/admin"
[metrics]
listen = "%[8]s"
`

// setup is how a policyd of a trial differs from the default.
type setup struct {
	// server and cache are further lines of these tables.
	server, cache string
	// resolvConf has it follow resolv.conf.
	resolvConf bool
	// state is the state directory; "" is one of its own.
	state string
	daemon.Environment
}

// policyd is a policyd under torture.
type policyd struct {
	*daemon.Process
	tcp, metrics string
	state        string
	stopped      bool
}

// start starts a policyd in a world. It is stopped with the trial, and must then still be there.
func (s *scene) start(ctx context.Context, w *world, with setup) (*policyd, error) {
	return s.startAt(ctx, w, "unix:DIR/s", with)
}

// startAt is start where the address is that of a listener that is passed.
func (s *scene) startAt(ctx context.Context, w *world, address string, with setup) (*policyd, error) {
	dir, err := s.subdir()
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(s.loopback(), 2)
	if err != nil {
		return nil, err
	}
	if with.state == "" {
		with.state = filepath.Join(dir, "state")
	}
	servers := strconv.Quote(w.dns.Addr())
	if with.resolvConf {
		servers = ""
	}
	p := &policyd{tcp: ports[0], metrics: ports[1], state: with.state}
	p.Process, err = daemon.Start(ctx, daemon.Options{
		Binary: s.config.policyd, Dir: dir, Listen: address, Process: with.Environment,
		Settings: fmt.Sprintf(settings, ports[0], with.server, servers, with.state, with.cache, w.receiver.addr.Port(), w.caFile, ports[1]),
	})
	if err != nil {
		return nil, err
	}
	s.atEnd(p.finish)
	return p, nil
}

// again starts another process in the place of one that is gone.
func (p *policyd) again(ctx context.Context) error {
	next, err := daemon.Run(ctx, p.Command)
	if err != nil {
		return err
	}
	p.Process = next
	// On a passed listener a connection is no sign of life, and a signal that comes before life is the end.
	_, err = p.ask(ctx, socketmap.Request{Map: "tls-policy", Key: "*"})
	return err
}

// finish stops a policyd that must be running and well.
func (p *policyd) finish() error {
	if p.stopped {
		return nil
	}
	p.stopped = true
	select {
	case <-p.Ended():
		return fmt.Errorf("policyd is gone; it said:\n%s", tail(p.Log()))
	default:
	}
	if err := p.Stop(); err != nil {
		return fmt.Errorf("policyd did not end well: %w; it said:\n%s", err, tail(p.Log()))
	}
	if log := p.Log(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") {
		return fmt.Errorf("policyd panicked; it said:\n%s", tail(log))
	}
	return nil
}

// tail is the end of a log.
func tail(log string) string {
	const longest = 2000
	return log[max(0, len(log)-longest):]
}

// freePorts returns ports of an address that were free just now.
func freePorts(at netip.Addr, n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // not before all are found
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// ask asks one question on a connection of its own.
func (p *policyd) ask(ctx context.Context, request socketmap.Request) (socketmap.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := socketmap.Dial(ctx, p.Address)
	if err != nil {
		return socketmap.Reply{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Lookup(ctx, request)
}

// best asks until every question has its best answer, and returns how long that took.
func (p *policyd) best(ctx context.Context, questions []question) (time.Duration, error) {
	began := time.Now()
	for _, q := range questions {
		for {
			r, err := p.ask(ctx, q.request)
			switch {
			case err == nil && (r.String() == q.best || q.best == "" && r.Status == socketmap.StatusTemp):
			case err == nil && !q.allows(r):
				return 0, fmt.Errorf("%s %s: %q is weaker than the facts", q.request.Map, q.request.Key, r)
			case time.Since(began) > patience:
				return 0, fmt.Errorf("%s %s: not %q after %v, but %q %w", q.request.Map, q.request.Key, q.best, patience, r, errors.Join(err))
			default:
				const pause = 50 * time.Millisecond
				if err := wait(ctx, pause); err != nil {
					return 0, err
				}
				continue
			}
			break
		}
	}
	return time.Since(began), nil
}

// warm has policyd know the usual domains, and what is behind them.
func (p *policyd) warm(ctx context.Context, w *world) error {
	_, err := p.best(ctx, w.all)
	return err
}

// recover returns how long it took to have the best answers again. It must be seconds: back-offs of minutes would show.
func (p *policyd) recover(ctx context.Context, questions []question) (string, error) {
	const seconds = 25 * time.Second
	took, err := p.best(ctx, questions)
	if err == nil && took > seconds {
		err = fmt.Errorf("the best answers came back after %v only", took)
	}
	return fmt.Sprintf("back after %.1f s", took.Seconds()), err
}

// logged checks that the log has lines with the words, two parts of them with " … " between: at least one, and not by the
// thousand.
func (p *policyd) logged(words string) (string, error) {
	const most = 20
	n := 0
	first, also, _ := strings.Cut(words, " … ")
	for line := range strings.Lines(p.Log()) {
		if strings.Contains(line, first) && strings.Contains(line, also) {
			n++
		}
	}
	switch {
	case n == 0:
		return "", fmt.Errorf("the log does not name the cause (%q); it says:\n%s", words, tail(p.Log()))
	case n > most:
		return "", fmt.Errorf("the log says %q %d times", words, n)
	}
	return fmt.Sprintf("log: “%s” ×%d", words, n), nil
}

// awaitLog waits for a line.
func (p *policyd) awaitLog(ctx context.Context, words string) error {
	return p.awaitLogTimes(ctx, words, 1)
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

// rss is the resident memory in MiB, proc_pid_status(5).
func (p *policyd) rss() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// files is how many descriptors are open.
func (p *policyd) files() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	return len(entries), err
}

// awaitLogTimes waits until words are there so many times.
func (p *policyd) awaitLogTimes(ctx context.Context, words string, times int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for strings.Count(p.Log(), words) < times {
		const pause = 50 * time.Millisecond
		if wait(ctx, pause) != nil {
			return fmt.Errorf("the log does not say %q %d times; it says:\n%s", words, times, tail(p.Log()))
		}
	}
	return nil
}
