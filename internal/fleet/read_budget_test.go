package fleet

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"
)

// script is a server that was taken over: it answers each command as reply says, after a delay.
type script struct {
	delay time.Duration
	reply func(command []string) string
}

// serve answers on a connection until it is closed.
func (s script) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	line := func() string {
		text, _ := r.ReadString('\n')
		return strings.TrimRight(text, "\r\n")
	}
	for {
		n, err := strconv.Atoi(strings.TrimPrefix(line(), "*"))
		if err != nil {
			return
		}
		command := make([]string, n)
		for i := range command {
			line()
			command[i] = line()
		}
		time.Sleep(s.delay)
		if _, err := conn.Write([]byte(s.reply(command))); err != nil {
			return
		}
	}
}

func bulk(texts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(texts))
	for _, t := range texts {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(t), t)
	}
	return b.String()
}

// client returns a client whose connections the server answers.
func (s script) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		PoolSize: 1, MaxRetries: -1, Protocol: protocol, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go s.serve(far)
			return near, nil
		},
	})
}

// endless answers SCAN and XRANGE without an end, and everything else as an honest server.
func endless(scan bool) func(command []string) string {
	var entries atomic.Int64 // over all connections
	return func(command []string) string {
		switch strings.ToLower(command[0]) {
		case "set":
			return "$-1\r\n"
		case "setnx": // from go-redis 9.17, which Debian has
			return ":0\r\n"
		case "get":
			return "$1\r\ne\r\n"
		case "scan":
			if scan {
				return "*2\r\n$1\r\n7\r\n" + bulk("policyd:r:sts:a.example")
			}
			return "*2\r\n$1\r\n0\r\n*0\r\n"
		case "mget":
			return bulk(strings.Repeat("x", 1<<10))
		case "xrevrange":
			return "*0\r\n"
		case "xrange":
			if command[len(command)-1] == "1" {
				return "*0\r\n"
			}
			var b strings.Builder
			fmt.Fprintf(&b, "*%d\r\n", batch)
			for range batch {
				id := fmt.Sprintf("%d-1", entries.Add(1))
				b.WriteString("*2\r\n" + fmt.Sprintf("$%d\r\n%s\r\n", len(id), id) + bulk("sts:a.example", "x"))
			}
			return b.String()
		}
		return "-ERR unknown command\r\n"
	}
}

// A server that an attacker controls must not keep a node busy: each exchange is bounded, and a pause follows.
func TestAnEndlessReplyTakesAFifthOfTheTime(t *testing.T) {
	t.Parallel()
	for name, scan := range map[string]bool{"SCAN": true, "the stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, err := New(Options{URL: "redis://127.0.0.1", Keys: []Key{NewKey()}})
				require.NoError(t, err)
				require.NoError(t, f.client.Close())
				var commands atomic.Int64
				reply := endless(scan)
				server := script{delay: 500 * time.Millisecond, reply: func(command []string) string {
					commands.Add(1)
					return reply(command)
				}}
				f.client = server.client()
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- f.Run(ctx) }()
				const watched = time.Hour
				begin := commands.Load()
				time.Sleep(watched)
				busy := time.Duration(commands.Load()-begin) * server.delay
				require.Positive(t, busy)
				require.LessOrEqual(t, busy, watched/5+maxReadTime)
				require.Equal(t, errBudget.Error(), f.Stats().Error)
				stop()
				require.ErrorIs(t, <-done, context.Canceled)
			})
		})
	}
}

func TestAnExchangeIsBoundedByRecordsAndOctets(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		budget readBudget
		over   bool
	}{
		"little":  {readBudget{end: now.Add(1), records: maxReadRecords - 1, octets: maxReadOctets - 1}, false},
		"records": {readBudget{end: now.Add(1), records: maxReadRecords}, true},
		"octets":  {readBudget{end: now.Add(1), octets: maxReadOctets}, true},
		"time":    {readBudget{end: now}, true},
	} {
		require.Equal(t, c.over, c.budget.exhausted(now), name)
	}
}

// Records that did not fit in dirty are found by reading everything, even if that fails at first.
func TestAFailureDoesNotEndTheReadingAfterAnOverflow(t *testing.T) {
	t.Parallel()
	f, err := New(Options{URL: "redis://127.0.0.1", Keys: []Key{NewKey()}})
	require.NoError(t, err)
	require.NoError(t, f.client.Close())
	var scans atomic.Int64
	reply := endless(false)
	server := script{reply: func(command []string) string {
		switch strings.ToLower(command[0]) {
		case "scan":
			if scans.Add(1) == 2 {
				return "-ERR busy\r\n"
			}
		case "xrange":
			return "*0\r\n"
		}
		return reply(command)
	}}
	f.client = server.client()
	defer func() { require.NoError(t, f.client.Close()) }()
	require.NoError(t, f.exchange(t.Context()))
	f.overflow.Store(true)
	require.Error(t, f.exchange(t.Context()))
	require.NoError(t, f.exchange(t.Context()))
	require.NoError(t, f.exchange(t.Context()))
	require.EqualValues(t, 3, scans.Load())
}
