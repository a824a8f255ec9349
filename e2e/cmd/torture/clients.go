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
func (p *policyd) crowd(ctx context.Context, n int, first []byte) (conns []net.Conn, done func(), err error) {
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for range n {
		c, err := p.dial(ctx)
		if err != nil {
			return conns, done, err
		}
		conns = append(conns, c)
		if _, err := c.Write(first); len(first) > 0 && ignoreReset(err) != nil {
			return conns, done, err
		}
	}
	return conns, done, nil
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

func manyConnections(ctx context.Context, s *scene) (string, error) {
	const wanted, ours, usual = 10_000, 500, 4096 // max_connections
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	n := min(wanted, int(limit.Max)-ours)
	if n < wanted && !s.config.short {
		return "", fmt.Errorf("the limit of open files is %d: raise it to %d", limit.Max, wanted+ours)
	}
	before, err := s.p.files()
	if err != nil {
		return "", err
	}
	conns, done, err := s.p.crowd(ctx, n, nil)
	defer done()
	if err != nil {
		return "", err
	}
	for _, c := range conns[n-100:] { // the last ones are open and served
		if err := s.world.all[0].askOn(ctx, socketmap.NewClient(c)); err != nil {
			return "", err
		}
	}
	during, err := s.p.files()
	evicted, failed := s.p.metric(ctx, "policyd_connections_dropped_total")
	done()
	switch err = errors.Join(err, failed); {
	case err != nil:
	case during > before+usual+100:
		err = fmt.Errorf("%d files were open", during)
	case n > usual && evicted == 0:
		err = errors.New("no connection made room")
	case n > usual:
		err = s.p.logged("connection limit reached")
	}
	return fmt.Sprintf("%d connections, %.0f made room, %d files open", n, evicted, during), errors.Join(err,
		s.p.filesBack(ctx, before))
}

// slowClients send a request whose end never comes: byte by byte, half of it, or half of it and a FIN.
func slowClients(ctx context.Context, s *scene) (string, error) {
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
	err := group.Wait()
	return s.counted(ctx, all, errors.Join(err,
		s.p.logged("malformed request; connection closed … connection closed in the middle of a request")))
}

// counted checks that protocol errors were counted.
func (s *scene) counted(ctx context.Context, n int, err error) (string, error) {
	counted, failed := s.p.metric(ctx, "policyd_protocol_errors_total")
	if failed == nil && int(counted) < n {
		failed = fmt.Errorf("%.0f of %d were counted", counted, n)
	}
	return fmt.Sprintf("%d closed, %.0f counted", n, counted), errors.Join(err, failed)
}

func malformed(ctx context.Context, s *scene) (string, error) {
	bad := [][]byte{
		[]byte("no netstring at all\n"), []byte("99999999999999999999:"), []byte("10001:"), []byte("-1:x,"),
		[]byte("007:tls-pol,"),
		[]byte("5:ab cdX"), []byte("3:abc,"), []byte(":,"), []byte("GET / HTTP/1.1\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 4096), {0},
	}
	before, rounds := len(s.p.Log.Lines(0)), s.count(2000, 300)
	for range rounds {
		for _, b := range bad {
			c, err := s.p.dial(ctx)
			if err != nil {
				return "", err
			}
			_, err = c.Write(b)
			if err = errors.Join(ignoreReset(err), closedUnanswered(c), c.Close()); err != nil {
				return "", fmt.Errorf("%q: %w", b, err)
			}
		}
	}
	var err error
	const quiet = 20
	if grown := len(s.p.Log.Lines(before)); grown > quiet {
		err = fmt.Errorf("the log has grown by %d lines", grown)
	}
	return s.counted(ctx, rounds*len(bad), err)
}

func pipelined(ctx context.Context, s *scene) (string, error) {
	const requests = 1000
	questions := sure(s.world.all)
	c, err := s.p.dial(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	var all []byte
	for i := range requests {
		all = append(all, wire(questions[i%len(questions)])...)
	}
	if _, err := c.Write(all); err != nil {
		return "", err
	}
	in := bufio.NewReader(c)
	for i := range requests {
		payload, err := socketmap.ReadNetstring(in, socketmap.MaxReply)
		if err != nil {
			return "", fmt.Errorf("answer %d: %w", i, err)
		}
		q := questions[i%len(questions)]
		if r, err := socketmap.ParseReply(payload); err != nil || !q.allows(r) {
			return "", fmt.Errorf("answer %d: %s: %q is not allowed", i, q.request.Key, payload)
		}
	}
	return fmt.Sprintf("%d answers in order", requests), nil
}

func reconnects(ctx context.Context, s *scene) (string, error) {
	total, clients := s.count(20_000, 4000), 50
	before, err := s.p.files()
	if err != nil {
		return "", err
	}
	questions := sure(s.world.all)
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
	err = group.Wait()
	return fmt.Sprintf("%d connections, all answered", total), errors.Join(err, s.p.filesBack(ctx, before))
}

func fewFiles(ctx context.Context, s *scene) (string, error) {
	const clients = 300
	_, done, err := s.p.crowd(ctx, clients, nil) // more than there are descriptors
	defer done()
	_, waited := span(10*time.Second, 4*time.Second)(ctx, s)
	return fmt.Sprintf("%d idle connections", clients), errors.Join(err, waited)
}

// fillMemory asks for more and more domains with long answers, while clients hold back the end of the longest possible
// request.
func fillMemory(ctx context.Context, s *scene) (string, error) {
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
	_, done, err := s.p.crowd(ctx, held, request[:len(request)-1])
	defer done()
	highest, failed := highest(group.Wait, s.p.Memory)
	err = errors.Join(err, failed, s.p.logged("the DNS cache is bounded by the memory limit"))
	if highest > most {
		err = errors.Join(err, fmt.Errorf("%.0f MiB", highest))
	}
	if s.p.group != "" {
		err = errors.Join(err, noneKilled(s.p.group))
	}
	if err == nil {
		_, err = s.p.best(ctx, s.world.all)
	}
	return fmt.Sprintf("%d MiB, %d domains and %d requests held back: %.0f MiB resident", littleMemory>>20, total,
		held, highest), err
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
