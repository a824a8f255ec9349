package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
)

// Run probes what is due, and keeps the state directory up to date, until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { p.work(ctx) })
	}
	all.Go(func() { p.syncDisk(ctx) })
	p.dispatch(ctx)
	all.Wait()
	return errors.Join(ctx.Err(), p.disk.Close())
}

// work probes one host after the other.
func (p *Prober) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.ready:
		}
		for p.next(ctx) {
		}
	}
}

// next probes the host whose turn it is. It returns false where none is waiting.
func (p *Prober) next(ctx context.Context) bool {
	if !p.pending() || p.room.Acquire(ctx, 1) != nil {
		return false
	}
	defer p.room.Release(1)
	if p.rates.all.Wait(ctx) != nil {
		return false
	}
	h := p.take()
	if h == nil {
		return false
	}
	p.probe(ctx, h, true)
	return true
}

// pending reports whether a host waits for a worker.
func (p *Prober) pending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting() > 0
}

// Probe probes a host now, or waits for the probe that is under way. It obeys the rules about addresses and the
// bound on concurrent probes, but no rates. The verdict is what this probe found: Unknown where it failed on our side.
func (p *Prober) Probe(ctx context.Context, name string) Verdict {
	name, ok := hostName(name)
	if !ok {
		return Verdict{Why: "not the name of an smtps- host"}
	}
	givenUp := Verdict{Why: "given up: there was no more time"}
	if p.room.Acquire(ctx, 1) != nil {
		return givenUp
	}
	now := wallClock()
	p.mu.Lock()
	h := p.hosts[name]
	if h == nil {
		h = p.add(name, now)
	}
	h.asked = now
	under := h.flight
	if under == nil {
		p.begin(h)
	}
	p.mu.Unlock()
	if under == nil {
		defer p.room.Release(1)
		return p.probe(ctx, h, false)
	}
	p.room.Release(1)
	select {
	case <-under.done:
		return under.verdict
	case <-ctx.Done():
		return givenUp
	}
}

// probe probes a host whose probe has begun, and ends it.
func (p *Prober) probe(ctx context.Context, h *host, limited bool) Verdict {
	p.mu.Lock()
	o := p.options
	p.mu.Unlock()
	began := time.Now()
	f := p.examine(ctx, h.name, &o, limited)
	now := wallClock()

	p.mu.Lock()
	v, changed := f.verdict.dated(now), false
	if p.hosts[h.name] == h { // otherwise it was forgotten, because of other options or of other hosts
		v, changed = p.settle(h, f, now)
		p.judgeEgress(h.name, f)
	}
	result := v.State.String()
	if v.State == Closed {
		result = string(v.Cause)
	}
	p.results[result]++
	h.flight.verdict = v
	close(h.flight.done)
	h.flight = nil
	if h.used && p.hosts[h.name] == h {
		// Mail was sent while the probe ran; this verdict does not reflect its outcome.
		p.plan(h, now)
	}
	p.mu.Unlock()
	level := slog.LevelDebug
	if changed && p.news.Allow() {
		level = slog.LevelInfo
	}
	o.Logger.LogAttrs(ctx, level, "port of implicit TLS probed",
		slog.String("mx", h.name), slog.Int("port", int(o.Port)), slog.String("status", v.State.String()),
		slog.String("cause", string(v.Cause)), slog.String("reason", v.Why),
		slog.Bool("changed", changed), slog.Duration("dur", time.Since(began).Round(time.Millisecond)))
	return v
}

// hear has a dialogue. A certificate that makes the library panic is a failed probe; without the recover it would end
// the daemon, because each dialogue has a goroutine of its own.
func (p *Prober) hear(ctx context.Context, d smtptls.Dialogue, log *slog.Logger) (t smtptls.Transcript, err error) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic in a probe: please report this", slog.String("mx", d.Host),
				slog.String("err", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			err = errors.New("internal error")
		}
	}()
	return p.talk(ctx, d), nil
}
