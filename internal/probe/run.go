package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
)

// Run probes what is due, and keeps the state directory up to date, until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { _ = p.hosts.Run(ctx) }) // the error is that of ctx
	for p.room.Acquire(ctx, 1) == nil && p.rates.all.Wait(ctx) == nil {
		h := p.take(ctx)
		if h == nil {
			break
		}
		all.Go(func() {
			defer p.room.Release(1)
			p.probe(ctx, h, true)
		})
	}
	all.Wait()
	return errors.Join(ctx.Err(), p.hosts.Close())
}

// take waits until a host is due and returns it, with its probe begun, or nil when ctx ends.
func (p *Prober) take(ctx context.Context) *host {
	for ctx.Err() == nil {
		h, wait := p.next(wallClock())
		if h != nil {
			return h
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-time.After(wait):
		}
	}
	return nil
}

// next returns the host to probe now, with its probe begun. Where none is due, it returns nil and how long to wait. It
// forgets the hosts that were not wanted for a day.
func (p *Prober) next(now time.Time) (*host, time.Duration) {
	p.hosts.Lock()
	defer p.hosts.Unlock()
	wait := sweepInterval
	var first *host
	for _, h := range p.hosts.Records {
		switch {
		case h.probing:
		case now.Sub(h.asked) >= forgottenAge:
			p.hosts.Delete(h.name)
		case !h.wanted:
		case h.wait(now) > 0:
			wait = min(wait, h.wait(now))
		case first == nil || h.before(first):
			first = h
		}
	}
	if first != nil {
		first.begin(now)
	}
	return first, wait
}

// Probe probes a host now, or waits for the call that does. It obeys the rules about addresses and the bound on
// concurrent probes, but no rates. The verdict is what this probe found: Unknown where it failed on our side.
func (p *Prober) Probe(ctx context.Context, name string) Verdict {
	name, ok := hostName(name)
	if !ok {
		return Verdict{Why: "not the name of an smtps- host"}
	}
	found, _, _ := p.shared.Do(name, func() (any, error) {
		if p.room.Acquire(ctx, 1) != nil {
			return unknown("deadline exceeded"), nil
		}
		defer p.room.Release(1)
		now := wallClock()
		p.hosts.Lock()
		h := p.known(name, now)
		h.begin(now)
		p.hosts.Unlock()
		return p.probe(ctx, h, false), nil
	})
	v, _ := found.(Verdict)
	return v
}

// probe probes a host whose probe has begun, and ends it.
func (p *Prober) probe(ctx context.Context, h *host, limited bool) Verdict {
	o, began := p.options.Load(), time.Now()
	f := p.examine(ctx, h.name, o, limited)
	now := wallClock()

	p.hosts.Lock()
	changed := false
	h.probing = false
	if p.hosts.Records[h.name] == h { // otherwise it was forgotten, because of other options or of other hosts
		changed = p.settle(h, f, now)
		p.judgeEgress(h.name, f)
		if h.wanted {
			p.notify(h, now)
		}
	}
	p.results[cmp.Or(strings.ReplaceAll(string(f.Cause), " ", "-"), f.State.String())]++
	p.hosts.Unlock()
	level := map[bool]slog.Level{false: slog.LevelDebug, true: slog.LevelInfo}[changed]
	o.Logger.LogAttrs(ctx, level, "port of implicit TLS probed",
		slog.String("mx", h.name), slog.Int("port", int(o.Port)), slog.String("status", f.State.String()),
		slog.String("cause", string(f.Cause)), slog.String("reason", f.Why),
		slog.Bool("changed", changed), slog.Duration("dur", time.Since(began).Round(time.Millisecond)))
	return f.Verdict
}

// hear has a dialogue. A certificate that makes the library panic is a failed probe; without the recover it would end
// the daemon, because each dialogue has a goroutine of its own.
func (p *Prober) hear(ctx context.Context, d smtptls.Dialogue, o *Options) (t smtptls.Transcript, err error) {
	defer func() {
		if r := recover(); r != nil {
			o.Logger.Error("panic in a probe: please report this", slog.String("mx", d.Host),
				slog.String("err", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			err = errors.New("internal error")
		}
	}()
	t = p.talk(ctx, d)
	o.matchTLSA(ctx, d.Host, &t)
	return t, nil
}
