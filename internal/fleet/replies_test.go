package fleet

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server that was taken over must not make the node run out of memory or of stack.
func TestHugeRepliesAreRefused(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"a string":                   "$1099511627776\r\n",
		"a string over the bound":    "$80000\r\n",
		"a number out of range":      "$99999999999999999999\r\n",
		"an array":                   "*4294967296\r\n",
		"arrays in arrays":           strings.Repeat("*65536\r\n", 2),
		"a million arrays in arrays": strings.Repeat("*1\r\n", 1_000_000),
		"an endless line":            "+" + strings.Repeat("a", 1<<17),
		"a map of version 3":         "%1000000000\r\n",
		"maps in maps":               strings.Repeat("%32768\r\n+key\r\n", 2),
		"endless attributes":         strings.Repeat("|1\r\n+a\r\n+b\r\n", 1_000_000),
		"a verbatim string":          "=80000\r\n",
		"an unknown kind":            "@1\r\n",
		"an attribute of version 3":  "|1000000000\r\n",
		"an empty line":              "\r\n",
		"too many strings":           "*2000\r\n" + strings.Repeat("$70000\r\n"+strings.Repeat("a", 70000)+"\r\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &replies{Conn: textConn{Reader: strings.NewReader(reply)}}
			_, err := io.Copy(io.Discard, onlyReader{c})
			require.ErrorIs(t, err, errReply)
		})
	}
}

// The replies of an honest server pass unchanged, however they are split.
func TestOrdinaryRepliesPass(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("b", 70_000)
	replied := strings.Repeat("+OK\r\n-ERR x\r\n:5\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n$2\r\n\r\n\r\n*2\r\n*1\r\n$3\r\n$9\n\r\n:1\r\n$70000\r\n"+long+"\r\n"+
		"%2\r\n+a\r\n:1\r\n+b\r\n~2\r\n#t\r\n_\r\n>2\r\n+message\r\n,1.5\r\n|1\r\n+ttl\r\n:1\r\n*1\r\n(123\r\n=5\r\ntxt:x\r\n!3\r\nERR\r\n", 1200)
	for _, size := range []int{1, 7, 4096, 1 << 20} {
		c := &replies{Conn: textConn{Reader: strings.NewReader(replied)}}
		got, err := io.ReadAll(bufio.NewReaderSize(c, max(size, 16)))
		require.NoError(t, err)
		require.Equal(t, sha256.Sum256([]byte(replied)), sha256.Sum256(got))
		require.Zero(t, c.elements)
	}
}

// The client uses the bounded connection.
func TestAServerWithHugeRepliesIsAFailure(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"unix://", "redis://"} {
		network, address := "unix", filepath.Join(t.TempDir(), "s")
		if form == "redis://" {
			network, address = "tcp", "127.0.0.1:0"
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
		require.NoError(t, err)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					_, _ = io.WriteString(c, "*4294967296\r\n")
					_, _ = io.Copy(io.Discard, c)
				}()
			}
		}()
		f, err := New(Options{URL: form + l.Addr().String(), Keys: []Key{NewKey()}})
		require.NoError(t, err)
		for range 20 { // on a busy machine, the time of an exchange can run out
			if err = f.exchange(context.WithoutCancel(t.Context())); errors.Is(err, errReply) {
				break
			}
		}
		require.ErrorIs(t, err, errReply)
		require.NoError(t, f.client.Close())
		require.NoError(t, l.Close())
	}
}

// textConn reads from a text.
type textConn struct {
	net.Conn
	io.Reader
}

func (c textConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }

// onlyReader hides all other methods.
type onlyReader struct{ io.Reader }
