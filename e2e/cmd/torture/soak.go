package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/socketmap"
)

// shortSoak is the soak among the faults.
const shortSoak = 12 * time.Second

// soak is mixed load for so long.
func soak(length time.Duration) trial {
	return trial{
		fault: "soak: mixed load for " + length.String(), busy: true,
		holds: "no growth of memory, goroutines or descriptors",
		play:  func(ctx context.Context, s *scene) (string, error) { return soaked(ctx, s, length) },
	}
}

// usage is what a process uses when it rests.
type usage struct {
	memory     float64 // MiB, resident
	live       float64 // MiB, what the last collection has left
	goroutines float64
	files      int
}

// soaked has lookups of all maps, new, failing and vanishing domains, reloads, flushes, probes and MTA-STS go on, and looks at
// what is used every now and then, while nothing is asked.
func soaked(ctx context.Context, s *scene, length time.Duration) (string, error) {
	w, err := s.world(shortTTL)
	if err != nil {
		return "", err
	}
	// A small cache is full soon: from then on nothing may grow.
	p, err := s.start(ctx, w, setup{cache: "max_entries = 2000"})
	if err != nil {
		return "", err
	}
	if err := p.warm(ctx, w); err != nil {
		return "", err
	}
	looks, domains := 10, 6000
	if length < time.Minute {
		looks, domains = 2, 200
	}
	// What has a bound that no setting changes, such as the answers that are kept to be given again, must have its size
	// before growth is looked for: all domains are asked for once, and then there are no others.
	w.pool = w.unknown(domains)
	if err := p.askAll(ctx, w.pool); err != nil {
		return "", err
	}
	if _, err := p.mixture(ctx, w, length/time.Duration(looks)); err != nil {
		return "", err
	}
	first, err := p.rest(ctx)
	if err != nil {
		return "", err
	}
	used := []usage{first}
	asked := 0
	for range looks - 1 {
		n, err := p.mixture(ctx, w, length/time.Duration(looks))
		if err != nil {
			return "", err
		}
		asked += n
		now, err := p.rest(ctx)
		if err != nil {
			return "", err
		}
		used = append(used, now)
	}
	last := used[len(used)-1]
	found := fmt.Sprintf("%d lookups; memory %.0f → %.0f MiB, of which live %.0f → %.0f MiB, goroutines %.0f → %.0f, descriptors %d → %d", asked,
		first.memory, last.memory, first.live, last.live, first.goroutines, last.goroutines, first.files, last.files)
	return found, growth(used)
}

// growth is an error where the later half of the looks uses more than the earlier half, by more than chance.
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
		{"descriptors", func(u usage) float64 { return float64(u.files) }, 12},
	} {
		var values []float64
		for _, u := range used {
			values = append(values, of.get(u))
		}
		// Resting is not always complete: the least that was used counts.
		before, after := slices.Min(values[:half]), slices.Min(values[half:])
		const tenth = 1.1
		if after > before*tenth+of.allowed {
			errs = append(errs, fmt.Errorf("%s: grown: %.0f", of.what, values))
		}
	}
	return errors.Join(errs...)
}

// some are questions about domains that the soak has, by chance.
func (w *world) some(n int) (questions []question) {
	for range n {
		questions = append(questions, w.pool[rand.IntN(len(w.pool))])
	}
	return questions
}

// askAll asks every question twice in succession: only what is in the cache the second time is kept to be given again.
func (p *policyd) askAll(ctx context.Context, questions []question) error {
	const clients = 16
	var group errgroup.Group
	group.SetLimit(clients)
	for part := range slices.Chunk(questions, len(questions)/clients+1) {
		group.Go(func() error {
			var c *socketmap.Client
			defer func() {
				if c != nil {
					_ = c.Close()
				}
			}()
			for i := range 2 * len(part) {
				q := part[i/2]
				r, err := lookup(ctx, p.Address, &c, q.request)
				if err == nil && !q.allows(r) {
					err = fmt.Errorf("%s %s: %q", q.request.Map, q.request.Key, r)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// mixture is the load for so long. It returns how many lookups there were.
func (p *policyd) mixture(ctx context.Context, w *world, length time.Duration) (int, error) {
	questions := append(w.some(150), w.all...)
	l := p.load(ctx, loading{connections: 16, pause: 2 * time.Millisecond, questions: questions})
	end := time.Now().Add(length)
	var errs []error
	for i := 0; time.Now().Before(end) && ctx.Err() == nil; i++ {
		switch i % 10 {
		case 0:
			errs = append(errs, p.Signal(syscall.SIGHUP))
		case 3:
			errs = append(errs, p.flush(ctx, `{"all":true}`))
		case 5:
			errs = append(errs, p.flush(ctx, fmt.Sprintf(`{"domain":"k%d.example"}`, rand.IntN(len(kinds())))))
		case 6:
			w.dns.SetDead(true)
		case 7:
			w.dns.SetDead(false)
		}
		if w.hosts != nil {
			l.add(w.sts(false, fmt.Sprintf("soak%d.example", i%200)))
		}
		l.replace(w.some(30))
		errs = append(errs, wait(ctx, 200*time.Millisecond))
	}
	w.dns.SetDead(false)
	_, held := l.end()
	_, back := p.best(ctx, w.all)
	return l.asked, errors.Join(append(errs, held, back)...)
}

// replace has some questions asked in the place of others, so that a long soak does not ask for ever more.
func (l *load) replace(q []question) {
	const most = 500
	l.mu.Lock()
	defer l.mu.Unlock()
	l.question = slices.Concat(l.question[max(0, len(l.question)+len(q)-most):], q)
}

// rest waits until what was going on has ended, and looks.
func (p *policyd) rest(ctx context.Context) (usage, error) {
	// What a lookup has begun goes on for as long as a resolver may take: it is over when for that long nothing ends.
	const calm, pause = 9 * time.Second, 300 * time.Millisecond
	var u usage
	for least := time.Now(); time.Since(least) < calm; {
		n, err := p.metric(ctx, "go_goroutines")
		if err != nil {
			return u, err
		}
		if u.goroutines == 0 || n < u.goroutines {
			u.goroutines, least = n, time.Now()
		}
		if err := wait(ctx, pause); err != nil {
			return u, err
		}
	}
	var err error
	if u.memory, err = p.rss(); err != nil {
		return u, err
	}
	// With the usual GOGC the next collection comes at twice what the last has left.
	next, err := p.metric(ctx, "go_memstats_next_gc_bytes")
	if err != nil {
		return u, err
	}
	u.live = next / 2 / (1 << 20)
	u.files, err = p.files()
	return u, err
}

// flush asks over the admin socket, as policyd cache flush does.
func (p *policyd) flush(ctx context.Context, what string) error {
	path := strings.TrimSuffix(strings.TrimPrefix(p.Address, "unix:"), "/s") + "/admin"
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://policyd/v1/cache/flush", strings.NewReader(what))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("cache flush: %s", response.Status)
	}
	return nil
}
