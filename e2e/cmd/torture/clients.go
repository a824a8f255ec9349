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
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// dial connects over TCP. Everything on the connection fails after timeout.
func (p *policyd) dial() *net.TCPConn {
	c := must.Get(net.DialTimeout("tcp", p.tcp, timeout)).(*net.TCPConn)
	must.Do(c.SetDeadline(time.Now().Add(timeout)))
	return c
}

// crowd opens connections, sends first on each, and returns a function that closes them.
func (p *policyd) crowd(n int, first []byte) (conns []net.Conn, done func()) {
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for range n {
		c := p.dial()
		conns = append(conns, c)
		_, err := c.Write(first)
		must.Do(ignoreReset(err))
	}
	return conns, done
}

// ignoreReset turns an error into nil if the other side has closed the connection.
func ignoreReset(err error) error {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

func wire(q question) []byte { return socketmap.AppendNetstring(nil, q.request.Map+" "+q.request.Key) }

// askOn asks a question on a connection and checks the answer.
func (q question) askOn(ctx context.Context, c *socketmap.Client) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := must.Get(c.Lookup(ctx, q.request))
	must.Be(q.allows(r), "%s %s: %q", q.request.Map, q.request.Key, r)
}

// closedUnanswered checks that policyd closes a connection without an answer to what was sent.
func closedUnanswered(c net.Conn, sent []byte) {
	got, err := io.ReadAll(c)
	must.Be(len(got) == 0 && ignoreReset(err) == nil, "%q: answered with %q, %w", sent, got, err)
}

func manyConnections(ctx context.Context, s *scene) string {
	const wanted, ours, usual = 10_000, 500, 4096 // max_connections
	var limit unix.Rlimit
	must.Do(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	n := min(wanted, int(limit.Max)-ours)
	must.Be(n == wanted || s.config.short, "the limit of open files is %d: raise it to %d", limit.Max, wanted+ours)
	before := s.p.files()
	conns, done := s.p.crowd(n, nil)
	defer done()
	for _, c := range conns[n-100:] { // the last ones are open and served
		s.env.all[0].askOn(ctx, socketmap.NewClient(c))
	}
	during, evicted := s.p.files(), s.p.metric(ctx, "policyd_connections_dropped_total")
	done()
	must.Be(during <= before+usual+100, "%d files were open, %d before", during, before)
	if n > usual {
		must.Be(evicted > 0, "no connection made room")
		s.p.logged(ctx, "connection limit reached")
	}
	s.p.filesBack(ctx, before)
	return fmt.Sprintf("%d connections, %.0f made room, %d files open", n, evicted, during)
}

// slowClients send a request that is never complete: byte by byte, half of it, or half of it and a FIN.
func slowClients(ctx context.Context, s *scene) string {
	const all = 900
	half := wire(s.env.all[0])
	half = half[:len(half)/2]
	must.Each(all, all, func(i int) {
		c := s.p.dial()
		defer func() { _ = c.Close() }()
		switch i % 3 {
		case 0:
			go func() {
				for b := range slices.Chunk(half, 1) {
					if _, err := c.Write(b); err != nil || daemon.Sleep(ctx, 500*time.Millisecond) != nil {
						return
					}
				}
			}()
		case 1:
			must.Get(c.Write(half))
		default:
			must.Get(c.Write(half))
			must.Do(c.CloseWrite())
		}
		closedUnanswered(c, half)
	})
	s.p.logged(ctx, "malformed request; connection closed … connection closed in the middle of a request")
	return s.counted(ctx, all)
}

func (s *scene) counted(ctx context.Context, n int) string {
	counted := s.p.metric(ctx, "policyd_protocol_errors_total")
	must.Be(int(counted) >= n, "%.0f of %d were counted", counted, n)
	return fmt.Sprintf("%d closed, %.0f counted", n, counted)
}

func malformed(ctx context.Context, s *scene) string {
	bad := [][]byte{
		[]byte("no netstring at all\n"), []byte("99999999999999999999:"), []byte("10001:"), []byte("-1:x,"),
		[]byte("007:tls-pol,"), []byte("5:ab cdX"), []byte("3:abc,"), []byte(":,"), []byte("GET / HTTP/1.1\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 4096), {0},
	}
	before, rounds := len(s.p.Log.Lines(0)), s.count(2000, 300)
	for range rounds {
		for _, b := range bad {
			c := s.p.dial()
			_, err := c.Write(b)
			must.Do(ignoreReset(err))
			closedUnanswered(c, b)
			must.Do(c.Close())
		}
	}
	const quiet = 20
	grown := len(s.p.Log.Lines(before))
	must.Be(grown <= quiet, "the log has grown by %d lines; it ends:\n%s", grown, s.p.Log.Tail(20, ""))
	return s.counted(ctx, rounds*len(bad))
}

func pipelined(_ context.Context, s *scene) string {
	const requests = 1000
	questions := sure(s.env.all)
	c := s.p.dial()
	defer func() { _ = c.Close() }()
	var all []byte
	for i := range requests {
		all = append(all, wire(questions[i%len(questions)])...)
	}
	must.Get(c.Write(all))
	in := bufio.NewReader(c)
	for i := range requests {
		payload := must.Get(socketmap.ReadNetstring(in, socketmap.MaxReply))
		q := questions[i%len(questions)]
		r, err := socketmap.ParseReply(payload)
		must.Be(err == nil && q.allows(r), "answer %d: %s: %q is not allowed", i, q.request.Key, payload)
	}
	return fmt.Sprintf("%d answers in order", requests)
}

func reconnects(ctx context.Context, s *scene) string {
	total, clients := s.count(20_000, 4000), 50
	before, questions := s.p.files(), sure(s.env.all)
	must.Each(total, clients, func(i int) {
		c := must.Get(socketmap.Dial(ctx, s.p.tcp))
		questions[i%len(questions)].askOn(ctx, c)
		must.Do(c.Close())
	})
	s.p.filesBack(ctx, before)
	return fmt.Sprintf("%d connections, all answered", total)
}

func fewFiles(ctx context.Context, s *scene) string {
	const clients = 300
	_, done := s.p.crowd(clients, nil) // more than there are descriptors
	defer done()
	span(10*time.Second, 4*time.Second)(ctx, s)
	return fmt.Sprintf("%d idle connections", clients)
}

// fillMemory asks for more and more domains with long answers, while clients hold back the end of a long request.
func fillMemory(ctx context.Context, s *scene) string {
	const most, clients, held = 96, 16, 2000 // MiB, connections, connections
	total := s.count(60_000, 12_000)
	s.env.publishLong()
	request := socketmap.AppendNetstring(nil, "tls-policy "+strings.Repeat("x", socketmap.MaxQuery-len("tls-policy ")))
	_, done := s.p.crowd(held, request[:len(request)-1])
	defer done()
	highest := highest(func() {
		must.Each(clients, clients, func(i int) {
			c := must.Get(socketmap.Dial(ctx, s.p.tcp))
			for n := range total / clients {
				key := fmt.Sprintf("c%d-%d.flood.example", i, n)
				question{request: policyOf(key), best: notFound, also: []string{temp}}.askOn(ctx, c)
			}
		})
	}, func() float64 { return must.Get(s.p.Memory()) })
	s.p.logged(ctx, "the DNS cache is bounded by the memory limit")
	must.Be(highest <= most, "%.0f MiB resident, %d are allowed", highest, most)
	if s.p.group != "" {
		noneKilled(s.p.group)
	}
	s.p.best(ctx, s.env.all)
	return fmt.Sprintf("%d MiB, %d domains and %d requests held back: %.0f MiB resident", littleMemory>>20, total, held,
		highest)
}

// highest is the highest value of measure while f runs.
func highest(f func(), measure func() float64) (highest float64) {
	ended := make(chan error, 1)
	go func() { ended <- must.Catch(f) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		highest = max(highest, measure())
		select {
		case err := <-ended:
			must.Do(err)
			return highest
		case <-tick.C:
		}
	}
}
