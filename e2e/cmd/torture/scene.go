package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// scene is what one fault uses.
type scene struct {
	config config
	number int
	dir    string
	places int
	ending []func() error

	world   *world
	named   map[string]*dnstest.Server // that resolv.conf can name, by address
	p       *policyd
	load    *load
	fresh   []question
	learned []question // domains whose MTA-STS policies policyd has fetched
}

// play starts everything, causes the fault under load, and checks what holds for every fault: no answer is weaker than
// the facts, policyd still runs, and the log names the cause.
func (s *scene) play(ctx context.Context, f fault) (string, error) {
	if f.ttl == 0 {
		f.ttl = 3600
	}
	err := s.newWorld(f.ttl)
	if err == nil && f.setup.resolvConf {
		err = s.nameServers()
	}
	if err == nil {
		s.p, err = s.start(ctx, f.setup)
	}
	if err == nil {
		_, err = s.p.best(ctx, s.world.all) // policyd has cached them now
	}
	if err != nil {
		return "", err
	}
	s.learned, s.fresh = s.world.enforced("sts.example"), s.world.unknown(f.fresh)
	questions := slices.Concat(s.fresh, s.world.all)
	if f.sure {
		questions = sure(questions)
	}
	if f.connections > 0 {
		s.load = s.p.load(ctx, loading{connections: f.connections, pause: f.pause, questions: questions,
			gaps: f.setup.passed})
	}
	var seen []string
	note := func(text string, failed error) {
		if text != "" {
			seen = append(seen, text)
		}
		err = errors.Join(err, failed)
	}
	for _, step := range f.steps {
		if err == nil {
			note(step(ctx, s))
		}
	}
	if s.load != nil {
		note(s.load.end())
	}
	if f.log != "" {
		note("", s.p.logged(f.log))
	}
	return strings.Join(seen, "; "), err
}

// atEnd calls f when the fault is over, the last one first.
func (s *scene) atEnd(f func() error) { s.ending = append(s.ending, f) }

func (s *scene) end() error {
	var errs []error
	for _, f := range slices.Backward(s.ending) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// loopback is an address that only this fault uses. No connection starts from it, so its ports are and stay free.
func (s *scene) loopback() netip.Addr {
	s.places++
	return netip.AddrFrom4([4]byte{127, 40, byte(s.number), byte(s.places)})
}

// subdir makes a directory.
func (s *scene) subdir() (string, error) {
	s.places++
	dir := filepath.Join(s.dir, strconv.Itoa(s.places))
	return dir, os.Mkdir(dir, 0o700)
}

// count is the full or the short form of a number.
func (s *scene) count(full, short int) int {
	if s.config.short {
		return short
	}
	return full
}

// poll waits until yes returns true or an error.
func poll(ctx context.Context, what string, yes func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return daemon.Until(ctx, what, yes)
}

// timeout is for a busy machine: an operation that normally takes seconds may take this long.
const timeout = 45 * time.Second

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
