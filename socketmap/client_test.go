package socketmap_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

func TestClient(t *testing.T) {
	t.Parallel()
	tcp, unix := serve(t, &socketmap.Server{})
	for _, address := range []string{tcp, unix} {
		c, err := socketmap.Dial(t.Context(), address)
		require.NoError(t, err)
		for range 3 {
			r, err := c.Lookup(t.Context(), socketmap.Request{Map: "echo", Key: "a b"})
			require.NoError(t, err)
			require.Equal(t, socketmap.OK("a b"), r)
		}
		for _, bad := range []socketmap.Request{{Map: "echo a", Key: "b"}, {Map: "echo", Key: strings.Repeat("x", socketmap.MaxQuery)}} {
			_, err = c.Lookup(t.Context(), bad)
			require.ErrorIs(t, err, socketmap.ErrProtocol)
		}
		_, err = c.Lookup(t.Context(), socketmap.Request{Map: "echo", Key: "still usable"})
		require.NoError(t, err)
		require.NoError(t, c.Close())
		_, err = c.Lookup(t.Context(), socketmap.Request{Map: "echo", Key: "a"})
		require.ErrorIs(t, err, net.ErrClosed)
	}
	_, err := socketmap.Dial(t.Context(), "unix:"+t.TempDir()+"/none")
	require.Error(t, err)
}

// An error is never an answer, and its type shows the caller what to do next.
func TestClientErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reply  string
		closes bool
		want   error
	}{
		"closed before the reply":     {closes: true, want: io.EOF},
		"closed in the reply":         {reply: "8:OK h", closes: true, want: io.ErrUnexpectedEOF},
		"not a netstring":             {reply: "OK hello\n", want: socketmap.ErrProtocol},
		"not a reply":                 {reply: "2:OK,", want: socketmap.ErrProtocol},
		"no reply until the deadline": {want: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				go func() {
					_, _ = theirs.Read(make([]byte, 100))
					_, _ = theirs.Write([]byte(c.reply))
					if c.closes {
						_ = theirs.Close()
					}
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				client := socketmap.NewClient(ours)
				r, err := client.Lookup(ctx, socketmap.Request{Map: "echo", Key: "hello"})
				require.ErrorIs(t, err, c.want)
				require.Equal(t, socketmap.StatusTemp, r.Status)
				_, err = client.Lookup(ctx, socketmap.Request{Map: "echo", Key: "hello"})
				require.Error(t, err, "the connection is closed")
				require.NoError(t, theirs.Close())
			})
		})
	}
}

func TestLookupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer func() { _ = theirs.Close() }()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := socketmap.NewClient(ours).Lookup(ctx, socketmap.Request{Map: "echo", Key: "hello"})
			done <- err
		}()
		_, err := theirs.Read(make([]byte, 100))
		require.NoError(t, err)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}
