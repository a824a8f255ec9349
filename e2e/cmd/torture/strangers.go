package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// portWait is port26.wait, the longest that a transport lookup may take.
const portWait = 200 * time.Millisecond

func strangers() []trial {
	const holds = "memory, descriptors and queries stay bounded, and transport answers stay under port26.wait (200 ms) at p99.9"
	flood := func(name string, delay time.Duration) trial {
		return trial{fault: "strangers: 100,000 sender domains in a minute" + name, holds: holds, busy: true, play: func(ctx context.Context, s *scene) (string, error) {
			return strangersFlood(ctx, s, delay)
		}}
	}
	return []trial{flood("", 0), flood(", resolver at 100 ms", 100*time.Millisecond)}
}

// strangersFlood has strangers send mail from 100,000 domains in a minute, or at the same rate for less: smtpd looks the
// route of each up. A third of them does not exist, a third promises nothing, and a third promises implicit TLS at
// addresses that nobody answers at.
func strangersFlood(ctx context.Context, s *scene, delay time.Duration) (string, error) {
	const rate, connections = 100_000 / 60, 32
	span := s.span(time.Minute, 10*time.Second)
	if delay > 0 {
		span = s.span(20*time.Second, 5*time.Second)
	}
	total := int(rate * span.Seconds())
	w, p, err := s.stage(ctx, setup{})
	if err != nil {
		return "", err
	}
	keys := w.strangers(total, delay)
	queriesBefore := w.dns.Queries()
	filesBefore, err := p.files()
	if err != nil {
		return "", err
	}
	memoryBefore, err := p.rss()
	if err != nil {
		return "", err
	}
	l := p.load(ctx, loading{connections: 4, pause: 10 * time.Millisecond, questions: sure(w.all)})
	due := make(chan string, total)
	var all sync.WaitGroup
	took := make([][]time.Duration, connections)
	errs := make([]error, connections)
	for i := range connections {
		all.Go(func() { took[i], errs[i] = p.smtpd(ctx, due) })
	}
	files, memory := 0, 0.0
	began := time.Now()
	for sent := 0; sent < total; {
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
		for ; sent < min(total, int(time.Since(began).Seconds()*rate)); sent++ {
			due <- keys[sent]
		}
		if n, err := p.files(); err == nil {
			files = max(files, n)
		}
		if m, err := p.rss(); err == nil {
			memory = max(memory, m)
		}
	}
	close(due)
	all.Wait()
	elapsed := time.Since(began)
	asked, held := l.end()
	times := slices.Concat(took...)
	slices.Sort(times)
	queries := float64(w.dns.Queries()-queriesBefore) / float64(total)
	const mostFiles, mostMemory, mostQueries = 64*3 + connections + 100, 250, 4
	switch p999 := quantile(times, 0.999); {
	case len(times) < total && errors.Join(errs...) == nil:
		errs = append(errs, fmt.Errorf("%d of %d were answered", len(times), total))
	case p999 >= portWait:
		errs = append(errs, fmt.Errorf("p99.9 is %v", p999))
	case files > filesBefore+mostFiles:
		errs = append(errs, fmt.Errorf("%d files were open", files))
	case memory > mostMemory:
		errs = append(errs, fmt.Errorf("%.0f MiB", memory))
	case queries > mostQueries:
		errs = append(errs, fmt.Errorf("%.1f queries for a domain", queries))
	}
	errs = append(errs, held, p.filesBack(ctx, filesBefore))
	return fmt.Sprintf("%d domains in %.0f s: p50 %s, p99 %s, p99.9 %s; %d descriptors at most (%d before), %.0f MiB (%.0f before), %.1f queries a domain; the mail of others: %s",
		total, elapsed.Seconds(), millis(quantile(times, 0.5)), millis(quantile(times, 0.99)), millis(quantile(times, 0.999)),
		files, filesBefore, memory, memoryBefore, queries, asked), errors.Join(errs...)
}

// strangers publishes the domains and returns their addresses.
func (w *world) strangers(n int, delay time.Duration) []string {
	keys := make([]string, n)
	w.dns.SetOther(dnstest.Answer{Rcode: "NXDOMAIN", Delay: delay, TTL: 3600})
	for i := range keys {
		domain := fmt.Sprintf("s%d.strangers.example", i)
		keys[i] = "someone@" + domain
		host := "mx." + domain
		switch i % 3 {
		case 0:
			continue
		case 1:
			host = "smtps-" + host
			w.dns.Set(host, dns.TypeA, dnstest.Answer{TTL: 3600, Delay: delay, Records: []string{fmt.Sprintf("A 127.%d.%d.%d", 50+i>>16, i>>8&0xff, i&0xff)}})
			w.dns.Set(host, dns.TypeAAAA, dnstest.Answer{TTL: 3600, Delay: delay})
		}
		w.dns.Set(domain, dns.TypeMX, dnstest.Answer{TTL: 3600, Delay: delay, Records: []string{"MX 10 " + host + "."}})
	}
	return keys
}

// smtpd looks up the route of senders on one connection, and returns how long each took.
func (p *policyd) smtpd(ctx context.Context, keys <-chan string) (took []time.Duration, err error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", p.tcp)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for key := range keys {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return took, err
		}
		began := time.Now()
		if _, err := c.Write(socketmap.AppendNetstring(nil, "transport "+key)); err != nil {
			return took, err
		}
		payload, err := socketmap.ReadNetstring(in, socketmap.MaxReply)
		if err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
		if string(payload) != notFound {
			return took, fmt.Errorf("%s: %q", key, payload)
		}
	}
	return took, nil
}

// quantile returns the time within which that part was answered. The times are sorted.
func quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
