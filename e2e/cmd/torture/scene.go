package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// scene is what one fault uses.
type scene struct {
	config config
	number int
	dir    string
	places int
	ending []func()

	env     *environment
	named   map[string]*dnstest.Server // the servers that resolv.conf can name, by address
	p       *policyd
	load    *load
	fresh   []question
	learned []question // domains whose MTA-STS policies policyd has fetched
}

// play starts everything, causes the fault under load, and checks what must hold under every fault: no answer is weaker
// than the facts, policyd still runs, and the log names the cause.
func (s *scene) play(ctx context.Context, f fault) string {
	s.newEnvironment(cmp.Or(f.ttl, 3600))
	if f.setup.resolvConf {
		s.nameServers()
	}
	s.p = s.start(ctx, f.setup)
	s.p.best(ctx, s.env.all) // policyd has cached them now
	s.learned, s.fresh = s.env.enforced("sts.example"), s.env.unknown(f.fresh)
	questions := slices.Concat(s.fresh, s.env.all)
	if f.sure {
		questions = sure(questions)
	}
	if f.connections > 0 {
		s.load = (&load{connections: f.connections, pause: f.pause, questions: questions,
			gaps: f.setup.passed}).start(ctx, s.p)
		s.atEnd(func() { s.endLoad() })
	}
	var seen []string
	for _, step := range f.steps {
		seen = append(seen, step(ctx, s))
	}
	seen = append(seen, s.endLoad())
	if f.log != "" {
		s.p.logged(ctx, f.log)
	}
	return strings.Join(slices.DeleteFunc(seen, func(text string) bool { return text == "" }), "; ")
}

// endLoad ends the load, if there is one, and returns its summary.
func (s *scene) endLoad() string {
	l := s.load
	if l == nil {
		return ""
	}
	s.load = nil
	return l.end()
}

// atEnd calls f when the fault is over; the last function is called first.
func (s *scene) atEnd(f func()) { s.ending = append(s.ending, f) }

func (s *scene) end() error {
	var errs []error
	for _, f := range slices.Backward(s.ending) {
		errs = append(errs, must.Catch(f))
	}
	return errors.Join(errs...)
}

// loopback is an address that only this fault uses. No connection is made from it, so its ports stay free.
func (s *scene) loopback() netip.Addr {
	s.places++
	return netip.AddrFrom4([4]byte{127, 40, byte(s.number), byte(s.places)})
}

// count is the full or the short form of a number.
func (s *scene) count(full, short int) int {
	if s.config.short {
		return short
	}
	return full
}

func poll(ctx context.Context, what string, yes func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return daemon.Until(ctx, what, func() (bool, error) { return yes(), nil })
}

// timeout is for a busy machine: an operation that normally takes seconds may take this long.
const timeout = 45 * time.Second
