package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

func hangups(ctx context.Context, s *scene) string {
	storm := s.count(3000, 500)
	for range storm {
		s.hangUp()
		must.Do(daemon.Sleep(ctx, 2*time.Millisecond))
	}
	must.Do(s.p.Logged(ctx, "msg=reloaded"))
	reloads := strings.Count(s.p.Log.String(), "msg=reloaded")
	must.Be(reloads <= storm, "%d signals were %d reloads", storm, reloads)
	return fmt.Sprintf("%d signals were %d reloads", storm, reloads)
}

// terminations sends many SIGTERM while lookups wait for a slow resolver.
func terminations(ctx context.Context, s *scene) string {
	const storm = 50
	times := s.count(20, 5)
	for range times {
		s.env.dns.SetDelay(200 * time.Millisecond)
		fresh := s.env.unknown(20)
		s.load.change(func(q []question) []question { return append(q, fresh...) })
		must.Do(daemon.Sleep(ctx, 300*time.Millisecond))
		for range storm {
			_ = s.p.Signal(syscall.SIGTERM) // it may have ended
		}
		err := s.p.Stop()
		must.Be(err == nil, "after the storm: %w; the log ends:\n%s", err, s.p.Log.Tail(20, ""))
		s.env.dns.SetDelay(0)
		s.p.again(ctx)
	}
	must.Be(!strings.Contains(s.p.Log.String(), "some lookups took longer than drain_timeout"), "lookups were cut off")
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

// publishLong gives every name that was not published a long answer.
func (w *environment) publishLong() {
	long := dnstest.Answer{TTL: 3600, Secure: true}
	for i := range 20 {
		long.Records = append(long.Records,
			fmt.Sprintf("MX %d mx%d.a-rather-long-name-of-a-host-that-takes-its-place.example.", i, i))
	}
	w.dns.SetOther(long)
}

// senderFlood looks up the routes of 100,000 sender domains in a minute as smtpd does, or at the same rate for less
// time. A third of the domains does not exist, a third promises nothing, and a third promises implicit TLS at addresses
// that never answer.
func senderFlood(delay time.Duration) step {
	return func(ctx context.Context, s *scene) string {
		const rate, connections = 100_000 / 60, 32
		inTime := 200 * time.Millisecond // port26.wait
		if s.config.short {
			inTime = 2 * time.Second // beside other tests, and never the timeout of a resolver
		}
		seconds := s.count(60, 10)
		if delay > 0 {
			seconds = s.count(20, 5)
		}
		total := rate * seconds
		keys := s.env.senders(total, delay)
		queries, filesBefore := s.env.dns.Queries(), s.p.files()
		due := make(chan string, total)
		go func() {
			defer close(due)
			begun := time.Now()
			for sent := 0; sent < total && daemon.Sleep(ctx, 10*time.Millisecond) == nil; {
				for ; sent < min(total, int(time.Since(begun).Seconds()*rate)); sent++ {
					due <- keys[sent]
				}
			}
		}()
		took, files := make([][]time.Duration, connections), 0
		memory := highest(func() {
			must.Each(connections, connections, func(i int) { took[i] = s.p.smtpd(ctx, due) })
		}, func() float64 {
			files = max(files, s.p.files())
			return must.Get(s.p.Memory())
		})
		l, times := s.load, slices.Concat(took...)
		asked := s.endLoad()
		slices.Sort(times)
		each := float64(s.env.dns.Queries()-queries) / float64(total)
		const mostFiles, mostMemory, mostQueries = 64*3 + connections + 100, 250, 4
		p999 := daemon.Quantile(times, 0.999)
		must.Be(len(times) == total, "%d of %d were answered", len(times), total)
		must.Be(p999 < inTime+l.late, "p99.9 is %v, %v is allowed", p999, inTime+l.late)
		must.Be(files <= filesBefore+mostFiles, "%d files were open, %d before", files, filesBefore)
		must.Be(memory <= mostMemory, "%.0f MiB, %d are allowed", memory, mostMemory)
		must.Be(each <= mostQueries, "%.1f queries per domain, %d are allowed", each, mostQueries)
		s.p.filesBack(ctx, filesBefore)
		return fmt.Sprintf("%d domains: p50 %s, p99.9 %s, %d descriptors, %.0f MiB, %.1f queries per domain; %s", total,
			daemon.Millis(daemon.Quantile(times, 0.5)), daemon.Millis(p999), files, memory, each, asked)
	}
}

// senders publishes the domains and returns an address in each.
func (w *environment) senders(n int, delay time.Duration) []string {
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
func (p *policyd) smtpd(ctx context.Context, keys <-chan string) (took []time.Duration) {
	c := must.Get(socketmap.Dial(ctx, p.tcp))
	defer func() { _ = c.Close() }()
	for key := range keys {
		begun := time.Now()
		question{request: socketmap.Request{Map: "transport", Key: key}, best: notFound}.askOn(ctx, c)
		took = append(took, time.Since(begun))
	}
	return took
}
