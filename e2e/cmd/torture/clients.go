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

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// dial connects over TCP. Everything on the connection fails after timeout.
func (p *policyd) dial(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", p.tcp)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(timeout))
	return c.(*net.TCPConn), nil
}

// crowd opens connections and returns what closes them; each of them sends first.
func (p *policyd) crowd(ctx context.Context, n int, first []byte) (conns []net.Conn, done func()) {
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for range n {
		c := must.Get(p.dial(ctx))
		conns = append(conns, c)
		if len(first) > 0 {
			_, err := c.Write(first)
			must.Do(ignoreReset(err))
		}
	}
	return conns, done
}

// ignoreReset returns no error when the other side has closed the connection.
func ignoreReset(err error) error {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

func wire(q question) []byte { return socketmap.AppendNetstring(nil, q.request.Map+" "+q.request.Key) }

// askOn asks a question on a connection and checks the answer.
func (q question) askOn(ctx context.Context, c *socketmap.Client) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := c.Lookup(ctx, q.request)
	if err == nil && !q.allows(r) {
		err = fmt.Errorf("%s %s: %q", q.request.Map, q.request.Key, r)
	}
	return err
}

// closedUnanswered checks that policyd closes a connection without an answer.
func closedUnanswered(c net.Conn) error {
	got, err := io.ReadAll(c)
	if len(got) > 0 {
		return fmt.Errorf("an answer to no request: %q", got)
	}
	return ignoreReset(err)
}

func manyConnections(ctx context.Context, s *scene) string {
	const wanted, ours, usual = 10_000, 500, 4096 // max_connections
	var limit unix.Rlimit
	must.Do(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	n := min(wanted, int(limit.Max)-ours)
	if n < wanted && !s.config.short {
		must.Do(fmt.Errorf("the limit of open files is %d: raise it to %d", limit.Max, wanted+ours))
	}
	before := s.p.files()
	conns, done := s.p.crowd(ctx, n, nil)
	defer done()
	for _, c := range conns[n-100:] { // the last ones are open and served
		must.Do(s.world.all[0].askOn(ctx, socketmap.NewClient(c)))
	}
	during, evicted := s.p.files(), s.p.metric(ctx, "policyd_connections_dropped_total")
	done()
	if during > before+usual+100 {
		must.Do(fmt.Errorf("%d files were open", during))
	}
	if n > usual {
		if evicted == 0 {
			must.Do(errors.New("no connection made room"))
		}
		must.Do(s.p.logged("connection limit reached"))
	}
	s.p.filesBack(ctx, before)
	return fmt.Sprintf("%d connections, %.0f made room, %d files open", n, evicted, during)
}

// slowClients send a request whose end never comes: byte by byte, half of it, or half of it and a FIN.
func slowClients(ctx context.Context, s *scene) string {
	const all = 900
	half := wire(s.world.all[0])
	half = half[:len(half)/2]
	var group errgroup.Group
	for i := range all {
		group.Go(func() error {
			c, err := s.p.dial(ctx)
			if err != nil {
				return err
			}
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
				_, err = c.Write(half)
			default:
				_, err = c.Write(half)
				err = errors.Join(err, c.CloseWrite())
			}
			return errors.Join(err, closedUnanswered(c))
		})
	}
	must.Do(group.Wait(), s.p.logged(
		"malformed request; connection closed … connection closed in the middle of a request"))
	return s.counted(ctx, all)
}

// counted checks that protocol errors were counted.
func (s *scene) counted(ctx context.Context, n int) string {
	counted := s.p.metric(ctx, "policyd_protocol_errors_total")
	if int(counted) < n {
		must.Do(fmt.Errorf("%.0f of %d were counted", counted, n))
	}
	return fmt.Sprintf("%d closed, %.0f counted", n, counted)
}

func malformed(ctx context.Context, s *scene) string {
	bad := [][]byte{
		[]byte("no netstring at all\n"), []byte("99999999999999999999:"), []byte("10001:"), []byte("-1:x,"),
		[]byte("007:tls-pol,"),
		[]byte("5:ab cdX"), []byte("3:abc,"), []byte(":,"), []byte("GET / HTTP/1.1\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 4096), {0},
	}
	before, rounds := len(s.p.Log.Lines(0)), s.count(2000, 300)
	for range rounds {
		for _, b := range bad {
			c := must.Get(s.p.dial(ctx))
			_, err := c.Write(b)
			if err = errors.Join(ignoreReset(err), closedUnanswered(c), c.Close()); err != nil {
				must.Do(fmt.Errorf("%q: %w", b, err))
			}
		}
	}
	const quiet = 20
	if grown := len(s.p.Log.Lines(before)); grown > quiet {
		must.Do(fmt.Errorf("the log has grown by %d lines", grown))
	}
	return s.counted(ctx, rounds*len(bad))
}

func pipelined(ctx context.Context, s *scene) string {
	const requests = 1000
	questions := sure(s.world.all)
	c := must.Get(s.p.dial(ctx))
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
		if r, err := socketmap.ParseReply(payload); err != nil || !q.allows(r) {
			must.Do(fmt.Errorf("answer %d: %s: %q is not allowed", i, q.request.Key, payload))
		}
	}
	return fmt.Sprintf("%d answers in order", requests)
}

func reconnects(ctx context.Context, s *scene) string {
	total, clients := s.count(20_000, 4000), 50
	before, questions := s.p.files(), sure(s.world.all)
	var group errgroup.Group
	group.SetLimit(clients)
	for i := range total {
		group.Go(func() error {
			c, err := socketmap.Dial(ctx, s.p.tcp)
			if err != nil {
				return err
			}
			return errors.Join(questions[i%len(questions)].askOn(ctx, c), c.Close())
		})
	}
	must.Do(group.Wait())
	s.p.filesBack(ctx, before)
	return fmt.Sprintf("%d connections, all answered", total)
}

func fewFiles(ctx context.Context, s *scene) string {
	const clients = 300
	_, done := s.p.crowd(ctx, clients, nil) // more than there are descriptors
	defer done()
	span(10*time.Second, 4*time.Second)(ctx, s)
	return fmt.Sprintf("%d idle connections", clients)
}

// fillMemory asks for more and more domains with long answers, while clients hold back the end of the longest possible
// request.
func fillMemory(ctx context.Context, s *scene) string {
	const most, clients, held = 96, 16, 2000 // MiB, connections, connections
	total := s.count(60_000, 12_000)
	s.world.publishLong()
	request := socketmap.AppendNetstring(nil, "tls-policy "+strings.Repeat("x", socketmap.MaxQuery-len("tls-policy ")))
	var group errgroup.Group
	for i := range clients {
		group.Go(func() error {
			c, err := socketmap.Dial(ctx, s.p.tcp)
			for n := 0; err == nil && n < total/clients; n++ {
				key := fmt.Sprintf("c%d-%d.flood.example", i, n)
				err = question{request: policyOf(key), best: notFound, temp: true}.askOn(ctx, c)
			}
			return err
		})
	}
	_, done := s.p.crowd(ctx, held, request[:len(request)-1])
	defer done()
	highest := must.Get(highest(group.Wait, s.p.Memory))
	must.Do(s.p.logged("the DNS cache is bounded by the memory limit"))
	if highest > most {
		must.Do(fmt.Errorf("%.0f MiB", highest))
	}
	if s.p.group != "" {
		noneKilled(s.p.group)
	}
	s.p.best(ctx, s.world.all)
	return fmt.Sprintf("%d MiB, %d domains and %d requests held back: %.0f MiB resident", littleMemory>>20, total, held,
		highest)
}

// highest measures until done returns, and returns its error.
func highest(done func() error, measure func() (float64, error)) (highest float64, err error) {
	ended := make(chan error, 1)
	go func() { ended <- done() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := measure()
		if err != nil {
			return highest, err
		}
		highest = max(highest, now)
		select {
		case err := <-ended:
			return highest, err
		case <-tick.C:
		}
	}
}
