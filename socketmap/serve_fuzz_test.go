package socketmap_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// FuzzServe sends bytes in pieces to a server. However they are cut, each request is answered once and in order, until the
// first malformed one closes the connection.
func FuzzServe(f *testing.F) {
	for _, s := range []string{"5:a key,", "5:a key,5:b key,", "5:a key,5:b k", "5:a key,x", "4:akey,", "0:,5:a key,", "05:a key,", "99999:"} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(3))
	}
	f.Add(bytes.Repeat([]byte("5:a key,"), 300), uint8(200))
	f.Add(socketmap.AppendNetstring(nil, "a "+strings.Repeat("k", 600)), uint8(255))
	s := &socketmap.Server{Handler: socketmap.HandlerFunc(func(_ context.Context, r socketmap.Request) socketmap.Reply {
		return socketmap.Temp(r.Map + "=" + r.Key)
	})}
	path := filepath.Join(f.TempDir(), "sock")
	l, err := net.Listen("unix", path)
	require.NoError(f, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	f.Cleanup(func() {
		require.NoError(f, s.Close())
		require.ErrorIs(f, <-served, socketmap.ErrServerClosed)
	})
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		want, ends := expected(b)
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for rest := b; len(rest) > 0; rest = rest[min(int(piece)+1, len(rest)):] {
				if _, err := c.Write(rest[:min(int(piece)+1, len(rest))]); err != nil {
					return // closed
				}
			}
		}()
		got := make([]byte, len(want))
		n, err := io.ReadFull(c, got)
		require.NoError(t, err, "%q", got[:n])
		require.Equal(t, string(want), string(got))
		if ends {
			requireClosed(t, c)
		}
		<-sent
	})
}

// expected returns the replies to the bytes b, and whether the connection is closed after them.
func expected(b []byte) (replies []byte, ends bool) {
	for r := bufio.NewReader(bytes.NewReader(b)); ; {
		payload, err := socketmap.ReadNetstring(r, socketmap.MaxQuery)
		if err != nil {
			return replies, errors.Is(err, socketmap.ErrProtocol)
		}
		name, key, ok := strings.Cut(payload, " ")
		if !ok {
			return replies, true
		}
		replies = socketmap.AppendNetstring(replies, socketmap.Temp(name+"="+key).String())
	}
}
