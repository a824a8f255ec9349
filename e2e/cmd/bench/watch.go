package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/resolver/resolvertest"
	"github.com/policyd/policyd/socketmap"
)

// hot is how many domains the watcher asks for, in turn. They do not expire while it watches.
const hot = 100

func hotDomain(i int) string { return fmt.Sprintf("h%03d.example", i%hot) }

// watch looks and prints what it saw. It is a process of its own, so that it sees no collector but that of policyd.
func watch(ctx context.Context, address string, d time.Duration) error {
	debug.SetGCPercent(-1)
	end, err := watchStalls(ctx)
	if err != nil {
		return err
	}
	s, slow, err := look(ctx, address, d)
	stalls, failed := end()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	s.forgive(slow, stalls)
	_, err = fmt.Println(s.n, s.longest.Nanoseconds(), s.over, s.own.Nanoseconds(), s.ownOver)
	return err
}

// look asks for hot domains on one connection, one request after the other. It returns the slow ones too.
func look(ctx context.Context, address string, d time.Duration) (s seen, slow []span, err error) {
	c, err := dial(ctx, address)
	if err != nil {
		return s, nil, err
	}
	defer func() { _ = c.Close() }()
	t := target{address: address}
	for i := range hot {
		t.requests = append(t.requests, socketmap.AppendNetstring(nil, "tls-policy "+hotDomain(i)))
	}
	policy := "OK secure match=starttls-mx." + hotDomain(0) + " servername=hostname"
	at := time.Now()
	took, err := t.expect(policy, "OK secure match=starttls-mx.h").drive(c, at.Add(d))
	s.n = len(took)
	for _, one := range took {
		s.longest = max(s.longest, one)
		if one > limit {
			s.over++
		}
		if one > late {
			slow = append(slow, span{at, at.Add(one)})
		}
		at = at.Add(one) // each is sent when the one before has been answered
	}
	return s, slow, err
}

// limit is what no request may take.
const limit = 10 * time.Millisecond

// seen is what a watcher saw.
type seen struct {
	longest time.Duration
	over, n int // requests over the limit, requests

	// The same, the stalls of the machine taken off.
	own     time.Duration
	ownOver int

	counted           bool    // that the server tells the following
	gone, collections float64 // entries that were swept out or evicted, rounds of the garbage collector
}

// forgive takes stalls off what was seen; slow are the requests that took more than late.
func (s *seen) forgive(slow, stalls []span) {
	s.own, s.ownOver = min(s.longest, late), 0
	for _, r := range slow {
		own := r.without(stalls)
		s.own = max(s.own, own)
		if own > limit {
			s.ownOver++
		}
	}
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

// pauses measures the longest time that a client waits for a cached answer while policyd has other things to do.
func (b *bench) pauses(ctx context.Context) error {
	b.report.text("## Pauses",
		fmt.Sprintf("The longest that one client waited for a cached answer, asking one after the other over a unix socket from a process of its own, each of %d times; the number of its requests, and of those that took over %v; and what went on meanwhile, in all: entries that were swept out or evicted, and rounds of the garbage collector. New domains come over 4 connections, and the resolver shares the processor.", b.plan.again, limit),
		fmt.Sprintf("The machine itself has pauses, which any server shows. So a thread on each processor naps for %v again and again: when it wakes up more than %v late, its processor was not there for anybody. The second column of times has these stalls taken off, where a request was under way.", nap, late))
	if !mayGoFirst() {
		b.report.text("These threads could not go before all others here, so a stall can also be that somebody else was busy: ask as root.")
	}
	rows := [][]string{{"meanwhile", "longest", "stalls taken off", "requests", fmt.Sprintf("over %v", limit), "stalls taken off", "entries gone", "collections"}}
	for _, measure := range []func(context.Context) ([][]string, error){b.expiring, b.evicting} {
		more, err := measure(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	b.report.table(rows...)
	return nil
}

// busyCache starts a policyd whose cache has n domains with that TTL, and the hot ones.
func (b *bench) busyCache(ctx context.Context, lab *resolvertest.Server, n int, ttl time.Duration, entries int) (*server, error) {
	policyd, err := b.startPolicyd(ctx, lab, process{entries: entries})
	if err != nil {
		return nil, err
	}
	var warm []string
	for i := range hot {
		prefixed().publish(lab, hotDomain(i), 0)
		warm = append(warm, hotDomain(i))
	}
	const connections = 64
	err = errors.Join(policyd.fill(ctx, connections, lasting(lab, "b", n, ttl)), policyd.fill(ctx, 1, warm))
	if err != nil {
		return nil, errors.Join(err, policyd.stop())
	}
	return policyd, nil
}

// lasting publishes so many domains with a prefix, of which the answers last that long.
func lasting(lab *resolvertest.Server, letter string, n int, ttl time.Duration) []string {
	domains := make([]string, n)
	for i := range domains {
		domains[i] = fmt.Sprintf("%s%07d.example", letter, i)
		prefixed().last(ttl).publish(lab, domains[i], 0)
	}
	return domains
}

// expiring watches while the entries of many domains expire and are swept out.
func (b *bench) expiring(ctx context.Context) (rows [][]string, err error) {
	lab, err := resolvertest.Start("127.0.0.1")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	constant, err := b.startConstant(ctx, "OK secure match=starttls-mx."+hotDomain(0)+" servername=hostname")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, constant.stop()) }()
	// For as long as policyd below: the longer, the longer the longest pause of the machine itself.
	w, err := b.during(ctx, constant, b.plan.sweep, nil)
	if err != nil {
		return nil, err
	}
	rows = append(rows, row("nothing; the constant server", w))
	const ttl = 10 * time.Second
	policyd, err := b.busyCache(ctx, lab, b.plan.expiring, ttl, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, policyd.stop()) }()
	var all []seen
	for i := range b.plan.again {
		if i > 0 {
			const connections = 64
			if err := policyd.fill(ctx, connections, lasting(lab, "b", b.plan.expiring, ttl)); err != nil {
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
func (b *bench) evicting(ctx context.Context) (rows [][]string, err error) {
	lab, err := resolvertest.Start("127.0.0.1")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	const each, ttl, connections = 5, time.Hour, 4 // RRsets of a domain
	policyd, err := b.busyCache(ctx, lab, b.plan.full, ttl, each*b.plan.full)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, policyd.stop()) }()
	var calm, evicting []seen
	for i := range b.plan.again {
		w, err := b.during(ctx, policyd, b.plan.calm, nil)
		if err != nil {
			return nil, err
		}
		calm = append(calm, w)
		more := lasting(lab, string(rune('e'+i)), b.plan.evicting, ttl)
		w, err = b.during(ctx, policyd, b.plan.calm, func() error { return policyd.fill(ctx, connections, more) })
		if err != nil {
			return nil, err
		}
		evicting = append(evicting, w)
	}
	return append(rows, row("nothing; the cache is full", calm...), row("the bound evicts, the collector runs", evicting...)), nil
}

// during watches a server for so long, or for as long as f takes where that is less.
func (b *bench) during(ctx context.Context, s *server, d time.Duration, f func() error) (w seen, err error) {
	before, err := s.counters(ctx)
	if err != nil {
		return w, err
	}
	wait, err := b.startWatch(ctx, s, d)
	if err != nil {
		return w, err
	}
	var failed error
	if f != nil {
		failed = f()
	}
	w, err = wait()
	if err = errors.Join(err, failed); err != nil {
		return w, err
	}
	after, err := s.counters(ctx)
	w.counted = s.metrics != ""
	w.gone = max(before.entries-after.entries, 0) + after.evicted - before.evicted
	w.collections = after.collections - before.collections
	return w, err
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
