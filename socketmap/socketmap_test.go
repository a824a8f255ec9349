package socketmap_test

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

func TestReplyIsSafeForPostfix(t *testing.T) {
	t.Parallel()
	x := strings.Repeat("x", socketmap.MaxReply)
	for want, reply := range map[string]socketmap.Reply{
		"TEMP no answer":                       {},
		"NOTFOUND ":                            socketmap.NotFound(),
		"OK yes":                               socketmap.OK("yes"),
		"TEMP later":                           socketmap.Temp("later"),
		"TIMEOUT no answer":                    {Status: socketmap.StatusTimeout},
		"PERM a?b??":                           socketmap.Perm("a\x00b\xff\n"),
		"TEMP " + x[:200]:                      socketmap.Temp(x),
		"OK " + x[3:]:                          socketmap.OK(x[3:]),
		"TEMP internal error: OK without data": socketmap.OK(""),
		"TEMP internal error: reply over 100,000 bytes":                 socketmap.OK(x[2:]),
		"TEMP internal error: reply with bytes outside printable ASCII": socketmap.OK("caf\u00e9"),
		"TEMP internal error: unknown reply status":                     {Status: socketmap.StatusPerm + 1, Text: "yes"},
	} {
		require.Equal(t, want, reply.String())
	}
	require.Equal(t, "TEMP internal error: unknown reply status", socketmap.Reply{Status: 255, Text: "yes"}.String())
}

func TestParseReplyIsStrict(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "OK", "OK ", "NOTFOUND", "ok x", "TEMP", "OKAY x", " OK x"} {
		r, err := socketmap.ParseReply(s)
		require.ErrorIs(t, err, socketmap.ErrProtocol, "%q", s)
		require.Equal(t, socketmap.StatusTemp, r.Status)
	}
}

func TestReadNetstring(t *testing.T) {
	t.Parallel()
	for input, want := range map[string]error{
		"": io.EOF, "5": io.ErrUnexpectedEOF, "5:hel": io.ErrUnexpectedEOF, "5:hello": io.ErrUnexpectedEOF,
		"5:hello;": socketmap.ErrProtocol, "05:hello,": socketmap.ErrProtocol, ":": socketmap.ErrProtocol,
		"-1:": socketmap.ErrProtocol, "101:": socketmap.ErrProtocol, "99999999999999999999:": socketmap.ErrProtocol,
		"5:hello,": nil, "0:,": nil,
	} {
		for _, size := range []int{16, 4096} {
			_, err := socketmap.ReadNetstring(bufio.NewReaderSize(strings.NewReader(input), size), 100)
			require.ErrorIs(t, err, want, "%q", input)
		}
	}
	_, err := socketmap.ReadNetstring(bufio.NewReader(strings.NewReader("x")), 100)
	var malformed *socketmap.ProtocolError
	require.ErrorAs(t, err, &malformed)
	require.Equal(t, "not a netstring", malformed.Reason)
}

func FuzzReadNetstring(f *testing.F) {
	for _, s := range []string{"5:hello,", "0:,", "05:hello,", "5:hello", "99999:", "5:hello;", ":"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, err := socketmap.ReadNetstring(bufio.NewReaderSize(strings.NewReader(string(b)), 16), 100)
		if err != nil {
			require.Empty(t, payload)
			require.True(t, errors.Is(err, socketmap.ErrProtocol) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
			return
		}
		require.LessOrEqual(t, len(payload), 100)
		again := socketmap.AppendNetstring(nil, payload)
		require.Equal(t, string(b[:len(again)]), string(again), "reading and writing are inverse")
	})
}

func FuzzReply(f *testing.F) {
	f.Add(byte(1), "secure match=a")
	f.Add(byte(0), "later\x00")
	f.Fuzz(func(t *testing.T, status byte, text string) {
		wire := socketmap.Reply{Status: socketmap.Status(status % 6), Text: text}.String()
		for i := range len(wire) {
			require.True(t, wire[i] >= ' ' && wire[i] <= '~', "printable ASCII only")
		}
		r, err := socketmap.ParseReply(wire)
		require.NoError(t, err)
		require.Equal(t, wire, r.String(), "parsing and writing are inverse")
		require.False(t, r.Status == socketmap.StatusOK && r.Text == "", "OK has data")
		require.LessOrEqual(t, len(wire), socketmap.MaxReply)
		if socketmap.Status(status%6) != socketmap.StatusNotFound {
			require.NotEqual(t, socketmap.StatusNotFound, r.Status, "an error never becomes NOTFOUND")
		}
	})
}
