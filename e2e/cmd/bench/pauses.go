package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// pauses measures the longest time that a client waits for a cached answer while policyd has other things to do.
func (b *bench) pauses(ctx context.Context) error {
	b.report.text("## Pauses",
		fmt.Sprintf("The longest that one client waited for a cached answer, asking one after the other over a unix socket from a process of its own, each of %d times; the number of its requests, and of those that took over %v; and what went on meanwhile, in all: entries that were swept out or evicted, and rounds of the garbage collector. The resolver, and who looks up new domains over 4 connections, get the processor when neither that client nor policyd wants it, but for the last row.", b.plan.again, limit),
		fmt.Sprintf("The machine itself has pauses, which any server shows. So a thread on each processor naps for %v again and again: when it wakes up more than %v late, its processor was not there for anybody. Where it says so, these stalls are taken off the requests that were under way.", nap, late))
	if !mayGoFirst() {
		b.report.text("These threads could not go before all others here, so a stall can also be that somebody else was busy: ask as root.")
	}
	rows := [][]string{{"meanwhile", "longest", "stalls taken off", "requests", fmt.Sprintf("over %v", limit), "stalls taken off", "entries gone", "collections"}}
	for _, measure := range []func(context.Context) ([][]string, error){b.constantly, b.expiring, b.evicting, b.crowded} {
		more, err := measure(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	b.report.table(rows...)
	return nil
}

// constantly watches the constant server, for as long as policyd below: the longer, the longer the longest pause of the machine.
func (b *bench) constantly(ctx context.Context) (rows [][]string, err error) {
	constant, err := b.startConstant(ctx, "OK secure match=starttls-mx."+hotDomain(0)+" servername=hostname")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, constant.stop()) }()
	w, err := b.during(ctx, constant, b.plan.sweep, nil)
	return append(rows, row("nothing; the constant server", w)), err
}

// busyCache starts neighbours, and a policyd with room for so many entries, or the usual number, of which the cache has what
// they are ordered to look up, and the hot domains.
func (b *bench) busyCache(ctx context.Context, idle bool, entries int, fill order) (*neighbours, *server, error) {
	n, err := b.startNeighbours(ctx, idle)
	if err != nil {
		return nil, nil, err
	}
	policyd, err := b.startPolicyd(ctx, n.resolver, process{entries: entries})
	if err != nil {
		return nil, nil, errors.Join(err, n.stop())
	}
	fill.address = policyd.unix
	if err = n.do(fill); err == nil {
		err = n.do(order{letter: "h", n: hot, connections: 1, address: policyd.unix})
	}
	if err != nil {
		return nil, nil, errors.Join(err, policyd.stop(), n.stop())
	}
	return n, policyd, nil
}

// expiring watches while the entries of many domains expire and are swept out.
func (b *bench) expiring(ctx context.Context) (rows [][]string, err error) {
	fill := order{letter: "b", n: b.plan.expiring, ttl: 10 * time.Second, connections: 64}
	n, policyd, err := b.busyCache(ctx, true, 0, fill)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, policyd.stop(), n.stop()) }()
	fill.address = policyd.unix
	var all []seen
	for i := range b.plan.again {
		if i > 0 {
			if err := n.do(fill); err != nil {
				return nil, err
			}
		}
		w, err := b.during(ctx, policyd, b.plan.sweep, nil) // some have, while the others were looked up
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return append(rows, row("entries expire", all...)), nil
}

// evicting watches a full cache, with nothing else to do and while new domains drive out others.
func (b *bench) evicting(ctx context.Context) ([][]string, error) {
	calm, evicting, err := b.full(ctx, true)
	return [][]string{row("nothing; the cache is full", calm...), row("the bound evicts, the collector runs", evicting...)}, err
}

// crowded is the same with neighbours that want the processor as much as policyd does.
func (b *bench) crowded(ctx context.Context) ([][]string, error) {
	_, evicting, err := b.full(ctx, false)
	return [][]string{row("the same, and the neighbours are as eager", evicting...)}, err
}

func (b *bench) full(ctx context.Context, idle bool) (calm, evicting []seen, err error) {
	const each, ttl = 5, time.Hour // RRsets of a domain
	n, policyd, err := b.busyCache(ctx, idle, each*b.plan.full, order{letter: "b", n: b.plan.full, ttl: ttl, connections: 64})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, policyd.stop(), n.stop()) }()
	for i := range b.plan.again {
		w, err := b.during(ctx, policyd, b.plan.calm, nil)
		if err != nil {
			return nil, nil, err
		}
		calm = append(calm, w)
		more := order{letter: string(rune('i' + i)), n: b.plan.evicting, ttl: ttl, connections: 4, address: policyd.unix}
		w, err = b.during(ctx, policyd, b.plan.calm, func() error { return n.do(more) })
		if err != nil {
			return nil, nil, err
		}
		evicting = append(evicting, w)
	}
	return calm, evicting, nil
}

// startWatch watches in the background; the function that it returns waits for the end.
func (b *bench) startWatch(ctx context.Context, s *server, d time.Duration) (func() (seen, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out, problems strings.Builder
	cmd := exec.CommandContext(ctx, self, "-watch", s.unix, "-for", d.String())
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() (w seen, err error) {
		if err := cmd.Wait(); err != nil {
			return w, fmt.Errorf("%w: %s", err, problems.String())
		}
		_, err = fmt.Sscan(out.String(), &w.n, &w.longest, &w.over, &w.own, &w.ownOver)
		return w, err
	}, nil
}

// during watches a server for so long. Meanwhile f is called, if there is one, and may take longer.
func (b *bench) during(ctx context.Context, s *server, d time.Duration, f func() error) (w seen, err error) {
	before, err := s.counters(ctx)
	if err != nil {
		return w, err
	}
	wait, err := b.startWatch(ctx, s, d)
	if err != nil {
		return w, err
	}
	ended := make(chan error, 1)
	go func() {
		if f == nil {
			ended <- nil
			return
		}
		ended <- f()
	}()
	w, err = wait()
	after, failed := s.counters(ctx)
	if err = errors.Join(err, failed, <-ended); err != nil {
		return w, err
	}
	w.counted = s.metrics != ""
	w.gone = max(before.entries-after.entries, 0) + after.evicted - before.evicted
	w.collections = after.collections - before.collections
	return w, nil
}

// row is what was seen in all, and the longest of each time.
func row(name string, times ...seen) []string {
	var longest, own []string
	var all seen
	for _, w := range times {
		longest, own = append(longest, millis(w.longest)), append(own, millis(w.own))
		all.n, all.over, all.ownOver, all.counted = all.n+w.n, all.over+w.over, all.ownOver+w.ownOver, w.counted
		all.gone, all.collections = all.gone+w.gone, all.collections+w.collections
	}
	gone, collections := "", ""
	if all.counted {
		gone, collections = thousands(all.gone), thousands(all.collections)
	}
	return []string{
		name, strings.Join(longest, ", "), strings.Join(own, ", "), thousands(float64(all.n)), thousands(float64(all.over)), thousands(float64(all.ownOver)), gone, collections,
	}
}
