package socketmap_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

// FuzzServe sends bytes in pieces to a server. However they are cut, the requests among them are answered in order, each once,
// until the first that is none.
func FuzzServe(f *testing.F) {
	for _, s := range []string{"5:a key,", "5:a key,5:b key,", "5:a key,5:b k", "5:a key,x", "4:akey,", "0:,5:a key,", "05:a key,", "99999:"} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(3))
	}
	f.Add(bytes.Repeat([]byte("5:a key,"), 300), uint8(200))
	f.Add(socketmap.AppendNetstring(nil, "a "+strings.Repeat("k", 600)), uint8(255))
	s := &socketmap.Server{Logger: slog.New(slog.DiscardHandler), Handler: socketmap.HandlerFunc(func(_ context.Context, r socketmap.Request) socketmap.Reply {
		return socketmap.Temp(r.Map + "=" + r.Key)
	})}
	path := filepath.Join(f.TempDir(), "sock")
	l, err := unixsock.Listen(f.Context(), "unix:"+path, unixsock.Options{})
	require.NoError(f, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	f.Cleanup(func() {
		require.NoError(f, s.Close())
		require.ErrorIs(f, <-served, socketmap.ErrServerClosed)
	})
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		want, over := expected(b)
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for rest := b; len(rest) > 0; rest = rest[min(int(piece)+1, len(rest)):] {
				if _, err := c.Write(rest[:min(int(piece)+1, len(rest))]); err != nil {
					return // it has been closed
				}
			}
		}()
		got := make([]byte, len(want))
		n, err := io.ReadFull(c, got)
		require.NoError(t, err, "%q", got[:n])
		require.Equal(t, string(want), string(got))
		if over {
			closed(t, c)
		}
		<-sent
	})
}

// expected are the replies to what is sent, and whether the connection is closed then.
func expected(b []byte) (replies []byte, over bool) {
	for r := bufio.NewReader(bytes.NewReader(b)); ; {
		payload, err := socketmap.ReadNetstring(r, socketmap.MaxQuery)
		if err != nil {
			return replies, errors.Is(err, socketmap.ErrNetstring)
		}
		name, key, ok := strings.Cut(payload, " ")
		if !ok {
			return replies, true
		}
		replies = socketmap.AppendNetstring(replies, socketmap.Temp(name+"="+key).String())
	}
}
