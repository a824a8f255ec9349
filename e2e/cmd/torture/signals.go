package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

func hangups(ctx context.Context, s *scene) string {
	storm := s.count(3000, 500)
	for range storm {
		must.Do(s.hangUp(), daemon.Sleep(ctx, 2*time.Millisecond))
	}
	reloads := strings.Count(s.p.Log.String(), "msg=reloaded")
	found := fmt.Sprintf("%d signals were %d reloads", storm, reloads)
	if reloads == 0 || reloads > storm {
		must.Do(errors.New(found))
	}
	return found
}

// terminations sends many SIGTERM while lookups are under way, as the resolver is slow.
func terminations(ctx context.Context, s *scene) string {
	const storm = 50
	times := s.count(20, 5)
	for range times {
		s.world.dns.SetDelay(200 * time.Millisecond)
		fresh := s.world.unknown(20)
		s.load.change(func(q []question) []question { return append(q, fresh...) })
		must.Do(daemon.Sleep(ctx, 300*time.Millisecond))
		for range storm {
			_ = s.p.Signal(syscall.SIGTERM) // it may have ended
		}
		if err := s.p.Stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			must.Do(fmt.Errorf("after the storm: %w; the log ends:\n%s", err, s.p.Log.Tail(20, "")))
		}
		s.world.dns.SetDelay(0)
		s.p.again(ctx)
	}
	if strings.Contains(s.p.Log.String(), "some lookups took longer than drain_timeout") {
		must.Do(errors.New("lookups were cut off"))
	}
	return fmt.Sprintf("%d storms of %d signals, exit status 0", times, storm)
}

func handover(ctx context.Context, s *scene) string {
	times, longest := s.count(50, 8), time.Duration(0)
	for range times {
		begun := time.Now()
		must.Do(s.p.Stop())
		s.p.again(ctx)
		longest = max(longest, time.Since(begun))
		must.Do(daemon.Sleep(ctx, 200*time.Millisecond))
	}
	return fmt.Sprintf("%d restarts, none running for %v at most", times, longest.Round(time.Millisecond))
}

// noneKilled checks that the kernel ended no process of a group for lack of memory.
func noneKilled(group string) {
	text, err := os.ReadFile(filepath.Join(group, "memory.events")) // of version 2
	if err != nil {
		text = must.Get(os.ReadFile(filepath.Join(group, "memory.oom_control"))) // of version 1
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok && strings.TrimSpace(n) != "0" {
			must.Do(fmt.Errorf("the kernel ended %s processes", strings.TrimSpace(n)))
		}
	}
}

// publishLong gives every name that was not published a long answer.
func (w *world) publishLong() {
	long := dnstest.Answer{TTL: 3600, Secure: true}
	for i := range 20 {
		long.Records = append(long.Records,
			fmt.Sprintf("MX %d mx%d.a-rather-long-name-of-a-host-that-takes-its-place.example.", i, i))
	}
	w.dns.SetOther(long)
}

// senderFlood looks up the routes of 100,000 sender domains in a minute, or at the same rate for less, as smtpd does. A
// third of them does not exist, a third promises nothing, and a third promises implicit TLS at addresses that never
// answer.
func senderFlood(delay time.Duration) step {
	return func(ctx context.Context, s *scene) string { return s.flood(ctx, delay) }
}

func (s *scene) flood(ctx context.Context, delay time.Duration) string {
	const rate, connections = 100_000 / 60, 32
	inTime := 200 * time.Millisecond // port26.wait
	if s.config.short {
		inTime = time.Second // beside other tests, and never the timeout of a resolver
	}
	seconds := s.count(60, 10)
	if delay > 0 {
		seconds = s.count(20, 5)
	}
	total := rate * seconds
	keys := s.world.senders(total, delay)
	queries, filesBefore := s.world.dns.Queries(), s.p.files()
	due := make(chan string, total)
	var group errgroup.Group
	took := make([][]time.Duration, connections)
	for i := range connections {
		group.Go(func() (err error) {
			took[i], err = s.p.smtpd(ctx, due)
			return err
		})
	}
	files, memory := 0, 0.0
	begun := time.Now()
	for sent := 0; sent < total; {
		must.Do(daemon.Sleep(ctx, 10*time.Millisecond))
		for ; sent < min(total, int(time.Since(begun).Seconds()*rate)); sent++ {
			due <- keys[sent]
		}
		files, memory = max(files, s.p.files()), max(memory, must.Get(s.p.Memory()))
	}
	close(due)
	must.Do(group.Wait())
	times := slices.Concat(took...)
	slices.Sort(times)
	each := float64(s.world.dns.Queries()-queries) / float64(total)
	const mostFiles, mostMemory, mostQueries = 64*3 + connections + 100, 250, 4
	var err error
	p999 := quantile(times, 0.999)
	switch {
	case len(times) < total:
		err = fmt.Errorf("%d of %d were answered", len(times), total)
	case p999 >= inTime:
		err = fmt.Errorf("p99.9 is %v", p999)
	case files > filesBefore+mostFiles:
		err = fmt.Errorf("%d files were open", files)
	case memory > mostMemory:
		err = fmt.Errorf("%.0f MiB", memory)
	case each > mostQueries:
		err = fmt.Errorf("%.1f queries per domain", each)
	}
	must.Do(err)
	s.p.filesBack(ctx, filesBefore)
	return fmt.Sprintf("%d domains: p50 %s, p99.9 %s, %d descriptors, %.0f MiB, %.1f queries per domain", total,
		millis(quantile(times, 0.5)), millis(p999), files, memory, each)
}

// senders publishes the domains and returns an address in each.
func (w *world) senders(n int, delay time.Duration) []string {
	keys := make([]string, n)
	set := func(name string, t dns.Type, records ...string) {
		w.dns.Set(name, t, dnstest.Answer{TTL: 3600, Delay: delay, Records: records})
	}
	w.dns.SetOther(dnstest.Answer{Rcode: "NXDOMAIN", Delay: delay, TTL: 3600})
	for i := range keys {
		domain := fmt.Sprintf("s%d.senders.example", i)
		keys[i] = "someone@" + domain
		host := "mx." + domain
		switch i % 3 {
		case 0:
			continue
		case 1:
			host = "smtps-" + host
			set(host, dns.TypeA, fmt.Sprintf("A 127.%d.%d.%d", 50+i>>16, i>>8&0xff, i&0xff))
			set(host, dns.TypeAAAA)
		}
		set(domain, dns.TypeMX, "MX 10 "+host+".")
	}
	return keys
}

// smtpd looks up routes on one connection and returns how long each took.
func (p *policyd) smtpd(ctx context.Context, keys <-chan string) (took []time.Duration, err error) {
	c, err := socketmap.Dial(ctx, p.tcp)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	for key := range keys {
		begun := time.Now()
		q := question{request: socketmap.Request{Map: "transport", Key: key}, best: notFound}
		if err := q.askOn(ctx, c); err != nil {
			return took, err
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}
