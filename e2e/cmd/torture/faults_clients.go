package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/socketmap"
)

func clientFaults() []trial {
	return []trial{
		{fault: "clients: 10,000 connections", busy: true, play: manyConnections, holds: "the one idle for longest makes room, and everybody who asks is answered"},
		{fault: "clients: slow loris and half requests", play: slowClients, holds: "each is cut off when its time is over, and counted; the log says so once a minute; others do not notice"},
		{fault: "clients: floods of malformed netstrings", busy: true, play: malformed, holds: "each is closed without an answer and counted; the log says so once a minute; others do not notice"},
		{fault: "clients: 1,000 requests pipelined", busy: true, play: pipelined, holds: "1,000 answers in the order of the requests"},
		{fault: "clients: mass reconnects", busy: true, play: reconnects, holds: "all are answered, and no descriptor is left behind"},
	}
}

// stage starts a world and a policyd that knows it.
func (s *scene) stage(ctx context.Context, with setup) (*world, *policyd, error) {
	w, err := s.world(3600)
	if err != nil {
		return nil, nil, err
	}
	p, err := s.start(ctx, w, with)
	if err != nil {
		return nil, nil, err
	}
	return w, p, p.warm(ctx, w)
}

// sure are the questions with the best answer as the only one: nothing keeps policyd from it.
func sure(questions []question) (without []question) {
	for _, q := range questions {
		q.temp = q.best == ""
		without = append(without, q)
	}
	return without
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

func manyConnections(ctx context.Context, s *scene) (string, error) {
	const wanted, ours = 10_000, 500
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	if limit.Max < wanted+ours {
		if !s.config.short {
			return "", fmt.Errorf("the limit of open files is %d: raise it to %d", limit.Max, wanted+ours)
		}
	}
	connections := min(wanted, int(limit.Max)-ours)
	w, p, err := s.stage(ctx, setup{})
	if err != nil {
		return "", err
	}
	before, err := p.files()
	if err != nil {
		return "", err
	}
	l := p.load(ctx, loading{connections: 8, pause: 10 * time.Millisecond, questions: sure(w.all)})
	conns := make([]net.Conn, 0, connections)
	for range connections {
		c, err := dialTCP(ctx, p.tcp)
		if err != nil {
			return "", err
		}
		conns = append(conns, c)
		defer func() { _ = c.Close() }()
	}
	evicted, err := p.metric(ctx, "policyd_connections_dropped_total")
	if err != nil {
		return "", err
	}
	// The last ones are open and served.
	for _, c := range conns[len(conns)-100:] {
		if err := answersOn(c, w.all[0]); err != nil {
			return "", err
		}
	}
	during, err := p.files()
	if err != nil {
		return "", err
	}
	for _, c := range conns {
		_ = c.Close()
	}
	asked, held := l.end()
	const usual = 4096 // max_connections
	if during > before+usual+100 {
		held = errors.Join(held, fmt.Errorf("%d files were open", during))
	}
	if connections > usual && evicted == 0 {
		held = errors.Join(held, errors.New("nobody had to make room"))
	}
	line, unnamed := "", error(nil)
	if connections > usual {
		line, unnamed = p.logged("connection limit reached")
	}
	return fmt.Sprintf("%d connections; %s; %.0f made room; %d files open at most; %s", connections, asked, evicted, during, line),
		errors.Join(held, p.filesBack(ctx, before), unnamed)
}

// filesBack waits until no more descriptors are open than before, but for a few of what goes on at any time.
func (p *policyd) filesBack(ctx context.Context, before int) error {
	const few = 12
	began := time.Now()
	for {
		now, err := p.files()
		if err != nil || now <= before+few {
			return err
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%d files are open, before there were %d", now, before)
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func wire(q question) []byte {
	return socketmap.AppendNetstring(nil, q.request.Map+" "+q.request.Key)
}

// answersOn asks on a connection.
func answersOn(c net.Conn, q question) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(wire(q)); err != nil {
		return err
	}
	payload, err := socketmap.ReadNetstring(bufio.NewReader(c), socketmap.MaxReply)
	if err != nil {
		return err
	}
	r, err := socketmap.ParseReply(payload)
	if err == nil && !q.allows(r) {
		err = fmt.Errorf("%s %s: %q", q.request.Map, q.request.Key, r)
	}
	return err
}

func slowClients(ctx context.Context, s *scene) (string, error) {
	const each = 300
	w, p, err := s.stage(ctx, setup{server: `idle_timeout = "3s"`})
	if err != nil {
		return "", err
	}
	l := p.load(ctx, loading{connections: 8, pause: 10 * time.Millisecond, questions: sure(w.all)})
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for i := range 3 * each {
		all.Go(func() {
			if err := slow(ctx, p.tcp, i%3, wire(w.all[0])); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	asked, held := l.end()
	counted, err := p.metric(ctx, "policyd_protocol_errors_total")
	if err == nil && counted < 3*each {
		err = fmt.Errorf("%.0f of %d were counted", counted, 3*each)
	}
	stalled, silent := p.logged("request not complete in time; connection closed")
	cut, unnamed := p.logged("malformed request; connection closed … connection closed in the middle of a request")
	return fmt.Sprintf("%d cut off, %.0f counted; %s; %s; %s", 3*each, counted, asked, stalled, cut), errors.Join(append(errs, held, err, silent, unnamed)...)
}

// slow is a client that sends a request of which the end never comes: byte by byte, the half of it, or the half and a FIN.
// It returns when the server has hung up.
func slow(ctx context.Context, address string, kind int, request []byte) error {
	c, err := dialTCP(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	half := len(request) / 2
	switch kind {
	case 0:
		go func() {
			for i := range half {
				if _, err := c.Write(request[i : i+1]); err != nil {
					return
				}
				if wait(ctx, 500*time.Millisecond) != nil {
					return
				}
			}
		}()
	case 1:
		_, err = c.Write(request[:half])
	default:
		_, err = c.Write(request[:half])
		err = errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}
	if err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if len(got) > 0 {
		return fmt.Errorf("an answer to half a request: %q", got)
	}
	if errors.Is(err, unix.ECONNRESET) {
		err = nil
	}
	return err
}

func malformed(ctx context.Context, s *scene) (string, error) {
	rounds := s.count(2000, 300)
	w, p, err := s.stage(ctx, setup{})
	if err != nil {
		return "", err
	}
	before := len(p.Log())
	l := p.load(ctx, loading{connections: 8, pause: 10 * time.Millisecond, questions: sure(w.all)})
	bad := [][]byte{
		[]byte("no netstring at all\n"), []byte("99999999999999999999:"), []byte("10001:"), []byte("-1:x,"), []byte("007:tls-pol,"),
		[]byte("5:ab cdX"), []byte("3:abc,"), []byte(":,"), []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 4096), {0},
	}
	sent := 0
	for range rounds {
		for _, b := range bad {
			if err := refused(ctx, p.tcp, b); err != nil {
				return "", err
			}
			sent++
		}
	}
	asked, held := l.end()
	counted, err := p.metric(ctx, "policyd_protocol_errors_total")
	if err == nil && int(counted) < sent {
		err = fmt.Errorf("%.0f of %d were counted", counted, sent)
	}
	const quiet = 4096
	if grown := len(p.Log()) - before; grown > quiet {
		err = errors.Join(err, fmt.Errorf("the log has grown by %d bytes", grown))
	}
	line, unnamed := p.logged("malformed request; connection closed")
	return fmt.Sprintf("%d closed and counted; %s; %s", sent, asked, line), errors.Join(err, held, unnamed)
}

// refused sends something, and wants to be hung up on without an answer.
func refused(ctx context.Context, address string, what []byte) error {
	c, err := dialTCP(ctx, address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(what); err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		return err
	}
	got, err := io.ReadAll(c)
	if len(got) > 0 {
		return fmt.Errorf("%q was answered with %q", what, got)
	}
	if errors.Is(err, unix.ECONNRESET) {
		err = nil
	}
	return err
}

func pipelined(ctx context.Context, s *scene) (string, error) {
	const requests = 1000
	w, p, err := s.stage(ctx, setup{})
	if err != nil {
		return "", err
	}
	questions := sure(w.all)
	var all []byte
	for i := range requests {
		all = append(all, wire(questions[i%len(questions)])...)
	}
	c, err := dialTCP(ctx, p.tcp)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(all); err != nil {
		return "", err
	}
	in := bufio.NewReader(c)
	for i := range requests {
		payload, err := socketmap.ReadNetstring(in, socketmap.MaxReply)
		if err != nil {
			return "", err
		}
		r, err := socketmap.ParseReply(payload)
		if q := questions[i%len(questions)]; err != nil || !q.allows(r) {
			return "", fmt.Errorf("answer %d, to %s %s, is %q %w", i, q.request.Map, q.request.Key, r, errors.Join(err))
		}
	}
	return fmt.Sprintf("%d answers in order", requests), nil
}

func reconnects(ctx context.Context, s *scene) (string, error) {
	total, clients := s.count(20_000, 4000), 50
	w, p, err := s.stage(ctx, setup{})
	if err != nil {
		return "", err
	}
	before, err := p.files()
	if err != nil {
		return "", err
	}
	questions := sure(w.all)
	errs := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for n := range total / clients {
				c, err := dialTCP(ctx, p.tcp)
				if err == nil {
					err = answersOn(c, questions[(i+n)%len(questions)])
					_ = c.Close()
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	all.Wait()
	errs = slices.Insert(errs, 0, p.filesBack(ctx, before))
	return fmt.Sprintf("%d connections, all answered; as many descriptors as before", total), errors.Join(errs...)
}
