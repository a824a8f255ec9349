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
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// trial is a fault and what must hold.
type trial struct {
	fault, holds string
	// root says that it needs namespaces of its own.
	root bool
	// busy ones take the processor, and run one after the other; the others mostly wait.
	busy bool
	// play makes it happen and returns what came of it. The error is for what did not hold.
	play func(ctx context.Context, s *scene) (string, error)
}

// result is what came of a trial.
type result struct {
	trial
	found   string
	err     error
	leftOut bool
}

// runner plays trials.
type runner struct {
	config config
	dir    string
	say    sync.Mutex
}

// side is how many trials that mostly wait run side by side.
const side = 8

// play plays all of them: those that wait side by side, the busy ones beside those but one after the other.
func (r *runner) play(ctx context.Context, trials []trial) ([]result, error) {
	results := make([]result, len(trials))
	var busy, waiting errgroup.Group
	busy.SetLimit(1)
	waiting.SetLimit(side)
	var lanes errgroup.Group
	lane := func(group *errgroup.Group, isBusy bool) func() error {
		return func() error {
			for i, t := range trials {
				if t.busy == isBusy {
					group.Go(func() error { results[i] = r.one(ctx, i, t); return nil })
				}
			}
			return group.Wait()
		}
	}
	lanes.Go(lane(&waiting, false))
	lanes.Go(lane(&busy, true))
	_ = lanes.Wait() // what went wrong is in the results
	var errs []error
	for _, res := range results {
		switch {
		case res.err != nil:
			errs = append(errs, fmt.Errorf("%s: did not hold, see above", res.fault))
		case res.leftOut && !r.config.short:
			errs = append(errs, fmt.Errorf("%s: left out, as it needs root", res.fault))
		}
	}
	return results, errors.Join(errs...)
}

// one plays one trial.
func (r *runner) one(ctx context.Context, number int, t trial) result {
	if t.root && !r.config.root {
		r.print("left out", t, "needs root")
		return result{trial: t, leftOut: true}
	}
	const longest = 12 * time.Minute
	limit := longest + r.config.soak
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := &scene{config: r.config, number: number, dir: filepath.Join(r.dir, strconv.Itoa(number))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return result{trial: t, err: err}
	}
	began := time.Now()
	found, err := t.play(ctx, s)
	err = errors.Join(err, s.end())
	mark := "held"
	if err != nil {
		mark, found = "BROKEN", err.Error()
	}
	r.print(mark, t, fmt.Sprintf("%s (%.0f s)", found, time.Since(began).Seconds()))
	return result{trial: t, found: found, err: err}
}

func (r *runner) print(mark string, t trial, found string) {
	r.say.Lock()
	defer r.say.Unlock()
	fmt.Printf("%-8s %s: %s\n", mark, t.fault, found)
}

// scene is the stage of one trial.
type scene struct {
	config config
	number int
	dir    string
	used   int
	places int
	ending []func() error
}

// atEnd has f called when the trial is over, the last one first.
func (s *scene) atEnd(f func() error) { s.ending = append(s.ending, f) }

func (s *scene) end() error {
	var errs []error
	for _, f := range slices.Backward(s.ending) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// subdir makes a directory.
func (s *scene) subdir() (string, error) {
	s.used++
	dir := filepath.Join(s.dir, strconv.Itoa(s.used))
	return dir, os.Mkdir(dir, 0o700)
}

// loopback is an address that nobody else has, and that no connection goes out from: a port that is free there stays so
// while another process gets it.
func (s *scene) loopback() netip.Addr {
	s.places++
	return netip.AddrFrom4([4]byte{127, 40, byte(s.number), byte(s.places)})
}

// choose is the long or the short form of a number.
func (s *scene) count(full, short int) int {
	if s.config.short {
		return short
	}
	return full
}

// span is the same of a time.
func (s *scene) span(full, short time.Duration) time.Duration {
	if s.config.short {
		return short
	}
	return full
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
