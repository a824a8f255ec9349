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

	"github.com/policyd/policyd/internal/dns/dnstest"
)

// fault is a row of the table.
type fault struct {
	name, holds string
	// log is a part of the line that names the cause, two parts of it with " … " between. It must be logged a few
	// times, and not by the thousand. "" is not checked.
	log string
	// root says that the fault needs namespaces of its own.
	root bool
	// busy ones keep the processor busy and run one at a time; the others mostly wait.
	busy bool
	// ttl is how long DNS records live, in seconds; 0 is an hour.
	ttl   int
	setup setup
	// connections ask during the fault, with a pause before each question; 0 is none.
	connections int
	pause       time.Duration
	// fresh is how many domains are asked for the first time during the fault.
	fresh int
	// sure says that only the best answer will do: nothing keeps policyd from it.
	sure bool
	// recovers says that the best answers must be back within seconds of the end.
	recovers bool
	// prepare is called before policyd starts.
	prepare func(*scene) error
	// happen causes the fault and ends it. It returns what was seen; an error is what did not hold.
	happen func(context.Context, *scene) (string, error)
}

// scene is where one fault is played.
type scene struct {
	config config
	number int
	dir    string
	places int
	ending []func() error

	world *world
	named map[string]*dnstest.Server // that resolv.conf can name, by address
	p     *policyd
	load  *load
	fresh []question
}

// play starts everything, causes the fault under load, and checks what holds for every fault: no answer is weaker than
// the facts, policyd still runs, the best answers come back, and the log names the cause.
func (s *scene) play(ctx context.Context, f fault) (string, error) {
	ttl := f.ttl
	if ttl == 0 {
		ttl = 3600
	}
	err := s.newWorld(ttl)
	if err == nil && f.prepare != nil {
		err = f.prepare(s)
	}
	if err == nil {
		s.p, err = s.start(ctx, f.setup)
	}
	if err == nil {
		_, err = s.p.best(ctx, s.world.all) // now it knows them
	}
	if err != nil {
		return "", err
	}
	s.fresh = s.world.unknown(f.fresh)
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
	note(f.happen(ctx, s))
	if f.recovers {
		note(s.p.recover(ctx, slices.Concat(s.fresh, s.world.all)))
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

// loopback is an address of this fault alone, from which no connection goes out: its ports are and stay free.
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

// span waits for the full or the short form of a time.
func (s *scene) span(ctx context.Context, full, short time.Duration) error {
	if s.config.short {
		full = short
	}
	return wait(ctx, full)
}

// wait waits.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// poll waits until yes returns true or an error.
func poll(ctx context.Context, what string, yes func() (bool, error)) error {
	const pause = 50 * time.Millisecond
	begun := time.Now()
	for {
		done, err := yes()
		switch {
		case err != nil || done:
			return err
		case time.Since(begun) > patience:
			return fmt.Errorf("%s: not within %v", what, patience)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}
