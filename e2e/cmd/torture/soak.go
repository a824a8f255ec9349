package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
)

// shortSoak is the length of the soak among the faults.
const shortSoak = 12 * time.Second

// soak returns a fault that is mixed load for the given time.
func soak(length time.Duration) fault {
	return fault{
		name: "soak: mixed load for " + length.String(), busy: true, ttl: shortTTL,
		holds: "no growth of memory, goroutines or descriptors",
		setup: setup{settings: "cache.max_entries = 2000"}, // a small cache is soon full, and then no resource may grow
		steps: []step{func(ctx context.Context, s *scene) string { return s.soak(ctx, length) }},
	}
}

// usage is what a process uses while it is idle.
type usage struct {
	memory     float64 // MiB, resident
	live       float64 // MiB that the last collection left
	goroutines float64
	files      float64
}

// soak mixes lookups of all maps, new, failing and vanishing domains, reloads, flushes, probes and MTA-STS, and
// measures what policyd uses while it is idle between the mixtures.
func (s *scene) soak(ctx context.Context, length time.Duration) string {
	looks, domains := 10, 6000
	if length < time.Minute {
		looks, domains = 2, 200
	}
	// Structures with a bound of their own, such as the memo, must be full before growth can be measured: all domains
	// are asked for twice, and later there are no others. A slow machine may take minutes.
	pool := s.env.unknown(domains)
	l := (&load{connections: 16, questions: pool}).start(ctx, s.p)
	must.Do(daemon.Until(ctx, "all were asked", func() (bool, error) { return l.asks(3 * len(pool)), nil }))
	l.end()
	var used []usage
	asked := 0
	for range looks + 1 { // the first mixture warms up
		asked += s.mixture(ctx, pool, length/time.Duration(looks+1))
		used = append(used, s.p.rest(ctx))
	}
	used = used[1:]
	must.Do(growth(used))
	first, last := used[0], used[len(used)-1]
	return fmt.Sprintf("%d lookups; memory %.0f → %.0f MiB, of which live %.0f → %.0f MiB, "+
		"goroutines %.0f → %.0f, descriptors %.0f → %.0f", asked, first.memory, last.memory, first.live, last.live,
		first.goroutines, last.goroutines, first.files, last.files)
}

// growth returns an error if the later half of the measurements is larger than the earlier half, beyond chance.
func growth(used []usage) error {
	var errs []error
	half := len(used) / 2
	for _, of := range []struct {
		what    string
		get     func(usage) float64
		allowed float64 // beyond a tenth
	}{
		{"memory", func(u usage) float64 { return u.memory }, 24},
		{"live memory", func(u usage) float64 { return u.live }, 8},
		{"goroutines", func(u usage) float64 { return u.goroutines }, 20},
		{"descriptors", func(u usage) float64 { return u.files }, 12},
	} {
		var values []float64
		for _, u := range used {
			values = append(values, of.get(u))
		}
		// The process is not always completely idle: the least value counts.
		if before, after := slices.Min(values[:half]), slices.Min(values[half:]); after > before*1.1+of.allowed {
			errs = append(errs, fmt.Errorf("%s: grown: %.0f", of.what, values))
		}
	}
	return errors.Join(errs...)
}

// mixture applies the load for the given time. It returns how many lookups there were.
func (s *scene) mixture(ctx context.Context, pool []question, length time.Duration) int {
	const questions = 500
	some := func(n int) (chosen []question) {
		for range n {
			chosen = append(chosen, pool[rand.IntN(len(pool))])
		}
		return chosen
	}
	l := (&load{connections: 16, pause: 2 * time.Millisecond,
		questions: append(some(150), s.env.all...)}).start(ctx, s.p)
	end := time.Now().Add(length)
	for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
		more := some(30)
		switch i % 10 {
		case 0:
			s.hangUp()
		case 3:
			s.flush(ctx, "--all")
		case 5:
			s.flush(ctx, fmt.Sprintf("k%d.example", rand.IntN(int(kinds))))
		case 6, 7:
			s.env.dns.SetDead(i%10 == 6)
		default: // not while the resolver is dead: a policy that was never fetched does not hold
			policies := s.env.enforced(fmt.Sprintf("soak%d.example", i%200))
			s.p.best(ctx, policies)
			more = append(more, policies...)
		}
		l.change(func(q []question) []question { return append(q[max(0, len(q)+len(more)-questions):], more...) })
		must.Do(daemon.Sleep(ctx, 200*time.Millisecond))
	}
	s.env.dns.SetDead(false)
	l.end()
	s.p.best(ctx, s.env.all)
	return l.asked
}

func (s *scene) flush(ctx context.Context, what string) {
	out, status, err := s.p.Run(ctx, "cache", "flush", what)
	must.Be(err == nil && status == 0, "cache flush: %w, exit status %d: %s", err, status, out)
}

// rest waits until background work has ended, and then measures.
func (p *policyd) rest(ctx context.Context) (u usage) {
	// A lookup lasts as long as a resolver may take: all lookups have ended when none has ended for that long.
	const calm, pause = 9 * time.Second, 300 * time.Millisecond
	for least := time.Now(); time.Since(least) < calm; {
		if n := p.metric(ctx, "go_goroutines"); u.goroutines == 0 || n < u.goroutines {
			u.goroutines, least = n, time.Now()
		}
		must.Do(daemon.Sleep(ctx, pause))
	}
	u.memory, u.files = must.Get(p.Memory()), float64(p.files())
	// The next collection comes when the heap has grown by GOGC percent of what the last one left.
	growth := 1 + p.metric(ctx, "go_gc_gogc_percent")/100
	u.live = p.metric(ctx, "go_memstats_next_gc_bytes") / growth / (1 << 20)
	return u
}
