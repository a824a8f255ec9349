package probe

import (
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
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = p.hosts.Run(ctx) }) // the error is that of ctx
	for p.slots.Acquire(ctx, 1) == nil && p.rates.all.Wait(ctx) == nil {
		h := p.waitForDue(ctx)
		if h == nil {
			break
		}
		tasks.Go(func() {
			defer p.slots.Release(1)
			p.probe(ctx, h, true)
		})
	}
	tasks.Wait()
	return errors.Join(ctx.Err(), p.hosts.Close())
}

// waitForDue waits until a host is due and returns it, with its probe begun, or nil when ctx ends.
func (p *Prober) waitForDue(ctx context.Context) *host {
	for ctx.Err() == nil {
		h, wait := p.next(wallClock())
		if h != nil {
			return h
		}
		select {
		case <-ctx.Done():
		case <-p.wakeUp:
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
		case now.Sub(h.asked) >= forgottenAfter:
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
		if p.slots.Acquire(ctx, 1) != nil {
			return unknown("deadline exceeded"), nil
		}
		defer p.slots.Release(1)
		now := wallClock()
		p.hosts.Lock()
		h := p.wantedHost(name, now)
		h.begin(now)
		p.hosts.Unlock()
		return p.probe(ctx, h, false), nil
	})
	v, _ := found.(Verdict)
	return v
}

// probe probes a host whose probe has begun, and ends it. It returns what this probe found.
func (p *Prober) probe(ctx context.Context, h *host, limited bool) Verdict {
	o, began := p.options.Load(), time.Now()
	f := p.examine(ctx, h.name, o, limited)
	now := wallClock()

	p.hosts.Lock()
	changed := false
	h.probing = false
	if p.hosts.Records[h.name] == h { // otherwise it was forgotten: the options changed, or others took its place
		changed = p.settle(h, f, now)
		p.judgeEgress(h.name, f)
		if h.wanted {
			p.notify(h, now)
		}
	}
	result := f.State.String()
	if f.Cause != smtptls.CauseNone {
		result = strings.ReplaceAll(string(f.Cause), " ", "-")
	}
	p.results[result]++
	p.hosts.Unlock()
	level := slog.LevelDebug
	if changed {
		level = slog.LevelInfo
	}
	o.Logger.LogAttrs(ctx, level, "port of implicit TLS probed",
		slog.String("mx", h.name), slog.Int("port", int(o.Port)), slog.String("status", f.State.String()),
		slog.String("cause", string(f.Cause)), slog.String("reason", f.Why),
		slog.Bool("changed", changed), slog.Duration("dur", time.Since(began).Round(time.Millisecond)))
	return f.Verdict
}

// runDialogue carries out the dialogue with one address of a host. A certificate that makes the library panic is a
// failed probe; without the recover it would end the daemon, because each dialogue has a goroutine of its own.
func (p *Prober) runDialogue(ctx context.Context, d smtptls.Dialogue, o *Options) (t smtptls.Transcript, err error) {
	defer func() {
		if r := recover(); r != nil {
			o.Logger.Error("panic in a probe: please report this", slog.String("mx", d.Host),
				slog.String("err", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			err = errors.New("internal error")
		}
	}()
	t = p.dialogue(ctx, d)
	o.matchTLSA(ctx, d.Host, &t)
	return t, nil
}
