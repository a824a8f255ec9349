package smtptls

import (
	"bufio"
	"fmt"
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
		reply, err := readReply(bufio.NewReader(strings.NewReader(s)))
		if err != nil {
			require.Zero(t, reply.Code)
			require.Empty(t, reply.Lines)
			return
		}
		require.True(t, reply.Code >= 0 && reply.Code <= 999)
		require.NotEmpty(t, reply.Lines)
		size := 0
		var again strings.Builder
		for i, line := range reply.Lines {
			require.LessOrEqual(t, len(line), maxLine)
			require.Equal(t, text.Printable(line), line)
			if i > 0 {
				size += len(line)
			}
			again.WriteString(fmt.Sprintf("%03d", reply.Code) + map[bool]string{true: " ", false: "-"}[i == len(reply.Lines)-1] + line + "\r\n")
		}
		require.LessOrEqual(t, size, maxLine+maxText)
		if size > maxText/2 {
			return // cut again
		}
		second, err := readReply(bufio.NewReader(strings.NewReader(again.String())))
		require.NoError(t, err)
		require.Equal(t, reply.Code, second.Code)
		require.Len(t, second.Lines, len(reply.Lines))
		require.Equal(t, Tidy(reply.String()), reply.String())
	})
}
