package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Under systemd: priorities of sd-daemon(3) and no time, which the journal adds.
func TestJournalFormat(t *testing.T) {
	var out bytes.Buffer
	l := newLogs(&out, true)
	l.configure(slog.LevelDebug, "auto")
	log := l.logger().With("a", 1).WithGroup("g")
	log.Debug("four", "k", "v w")
	log.Info("three")
	log.Warn("two")
	log.Error("one", "err", errors.New("x\ny"))
	require.Equal(t, "<7>msg=four a=1 g.k=\"v w\"\n<6>msg=three a=1\n<4>msg=two a=1\n<3>msg=one a=1 g.err=\"x\\ny\"\n", out.String())
}

// A logger made before a change of level or format follows it.
func TestFormatAndLevelChange(t *testing.T) {
	var out bytes.Buffer
	l := newLogs(&out, false)
	log := l.logger().With("a", 1)
	log.Debug("hidden")
	require.Empty(t, out.String())
	log.Info("text")
	require.Regexp(t, `^time=\S+ level=INFO msg=text a=1\n$`, out.String())
	out.Reset()
	l.configure(slog.LevelDebug, "json")
	log.Debug("json")
	require.Contains(t, out.String(), `"level":"DEBUG","msg":"json","a":1}`)
	out.Reset()
	l.configure(slog.LevelError, "text")
	log.Warn("hidden")
	require.Empty(t, out.String())
	l.level.Set(slog.LevelInfo)
	log.Info("again")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
}

// format = "text" and "json" hold in the journal too.
func TestFormatBeatsTheJournal(t *testing.T) {
	var out bytes.Buffer
	l := newLogs(&out, true)
	l.configure(slog.LevelInfo, "text")
	l.logger().Info("x")
	require.True(t, strings.HasPrefix(out.String(), "time="))
}
