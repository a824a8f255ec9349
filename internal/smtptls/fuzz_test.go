package smtptls

import (
	"bufio"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/text"
)

func FuzzReply(f *testing.F) {
	for _, s := range []string{"220 hello\r\n", "220\n", "250-a\r\n250-STARTTLS\r\n250 b\r\n", "220-a\r\n221 b\r\n", "2200 x\r\n", "999 x\r\n", "220 \xff\x1b[31m\r\n", "HTTP/1.1 200 OK\r\n\r\n", "", "22", strings.Repeat("250-x\r\n", 200), "250 " + strings.Repeat("y", 4096) + "\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		reply, err := readReply(bufio.NewReaderSize(strings.NewReader(s), maxLine))
		if err != nil {
			require.Zero(t, reply.Code)
			require.Empty(t, reply.Lines)
			return
		}
		require.True(t, reply.Code >= 200 && reply.Code <= 599)
		require.True(t, len(reply.Lines) >= 1 && len(reply.Lines) <= maxLines)
		var again strings.Builder
		for i, line := range reply.Lines {
			require.LessOrEqual(t, len(line), maxLine)
			require.Equal(t, text.Printable(line), line)
			again.WriteString(s[:3])
			again.WriteString(map[bool]string{true: " ", false: "-"}[i == len(reply.Lines)-1] + line + "\r\n")
		}
		second, err := readReply(bufio.NewReaderSize(strings.NewReader(again.String()), 2*maxLine))
		require.NoError(t, err)
		require.Equal(t, reply, second, "what was read reads the same")
		require.Equal(t, Tidy(reply.String()), reply.String())
	})
}
