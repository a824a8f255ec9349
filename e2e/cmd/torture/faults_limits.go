package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

func limitFaults() []trial {
	return []trial{
		{fault: "limits: file descriptors exhausted", busy: true, play: fewFiles, holds: "idle connections make room, lookups are answered or TEMP, and all is well when the clients have gone"},
		{fault: "limits: GOMEMLIMIT reached", busy: true, play: fewBytes, holds: "the cache forgets in time; memory stays bounded and everybody is answered"},
		{fault: "limits: memory limit of the control group reached", root: true, busy: true, play: smallGroup, holds: "the cache forgets in time, so that the kernel has no cause to end the process, and everybody is answered"},
	}
}

func fewFiles(ctx context.Context, s *scene) (string, error) {
	const files, clients = 48, 300
	w, p, err := s.stage(ctx, setup{Environment: daemon.Environment{OpenFiles: files}})
	if err != nil {
		return "", err
	}
	questions := w.all
	// Connections that do nothing, more of them than there are files.
	var conns []net.Conn
	for range clients {
		c, err := dialTCP(ctx, p.tcp)
		if err != nil {
			return "", err
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
	}
	l := p.load(ctx, loading{connections: 4, pause: 20 * time.Millisecond, questions: append(w.unknown(50), questions...)})
	err = wait(ctx, s.span(10*time.Second, 4*time.Second))
	for _, c := range conns {
		_ = c.Close()
	}
	asked, held := l.end()
	back, recovered := p.recover(ctx, w.all)
	line, unnamed := p.logged("cannot accept connections")
	return fmt.Sprintf("%d files, %d connections; %s; %s; %s", files, clients, asked, back, line), errors.Join(err, held, recovered, unnamed)
}

// littleMemory is the limit of the two trials; the cache alone could take 400 MiB. Memory may be a little over GOMEMLIMIT, which is
// not hard, and not at all over the limit of a control group.
const littleMemory = 64 << 20

func fewBytes(ctx context.Context, s *scene) (string, error) {
	return s.fillMemory(ctx, daemon.Environment{Variables: []string{fmt.Sprintf("GOMEMLIMIT=%d", littleMemory)}})
}

func smallGroup(ctx context.Context, s *scene) (string, error) {
	group, err := s.memoryGroup(littleMemory)
	if err != nil {
		return "", err
	}
	found, err := s.fillMemory(ctx, daemon.Environment{Group: group})
	ended, failed := oomKills(group)
	if ended > 0 {
		failed = errors.Join(failed, fmt.Errorf("the kernel ended %d processes", ended))
	}
	return found, errors.Join(err, failed)
}

// fillMemory has strangers ask for ever more domains.
func (s *scene) fillMemory(ctx context.Context, environment daemon.Environment) (string, error) {
	const most = 96 // MiB
	total := s.count(60_000, 12_000)
	w, p, err := s.stage(ctx, setup{Environment: environment})
	if err != nil {
		return "", err
	}
	// Every name has a long answer.
	long := dnstest.Answer{TTL: 3600, Secure: true}
	for i := range 20 {
		long.Records = append(long.Records, fmt.Sprintf("MX %d mx%d.a-rather-long-name-of-a-host-that-takes-its-place.example.", i, i))
	}
	w.dns.SetOther(long)
	l := p.load(ctx, loading{connections: 4, pause: 5 * time.Millisecond, questions: w.all})
	var all sync.WaitGroup
	const clients = 16
	errs := make([]error, clients)
	for i := range clients {
		all.Go(func() { errs[i] = p.flood(ctx, i, total/clients) })
	}
	hoarders, hoarding := p.hoard(ctx)
	defer hoarders()
	highest := 0.0
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(200 * time.Millisecond):
		}
		now, err := p.rss()
		if err != nil {
			return "", err
		}
		highest = max(highest, now)
	}
	asked, held := l.end()
	if highest > most {
		held = errors.Join(held, fmt.Errorf("%.0f MiB", highest))
	}
	_, recovered := p.best(ctx, w.all)
	line, unnamed := p.logged("the DNS cache is bounded by the memory limit")
	return fmt.Sprintf("%d MiB, %d distinct domains and 2,000 held back requests: %.0f MiB resident at most; %s; %s", littleMemory>>20, total, highest, asked, line), errors.Join(append(errs, held, recovered, unnamed, hoarding)...)
}

// hoard opens connections that hold back the end of the longest request there is, and returns what closes them.
func (p *policyd) hoard(ctx context.Context) (done func(), err error) {
	const connections = 2000
	var conns []net.Conn
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	request := socketmap.AppendNetstring(nil, "tls-policy "+strings.Repeat("x", socketmap.MaxQuery-len("tls-policy ")))
	for range connections {
		c, err := dialTCP(ctx, p.tcp)
		if err != nil {
			return done, err
		}
		conns = append(conns, c)
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(request[:len(request)-1]); err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			return done, err
		}
	}
	return done, nil
}

// flood asks for distinct domains over one connection, as fast as the answers come.
func (p *policyd) flood(ctx context.Context, client, n int) error {
	c, err := dialTCP(ctx, p.tcp)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for i := range n {
		q := plain.questions(fmt.Sprintf("c%d-%d.flood.example", client, i))[0]
		if err := answersOn(c, q); err != nil {
			return err
		}
	}
	return nil
}
