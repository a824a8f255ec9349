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
	log := newLog(&out, slog.LevelDebug, "auto", true).With("a", 1).WithGroup("g")
	log.Debug("four", "k", "v w")
	log.Info("three")
	log.Warn("two")
	log.Error("one", "err", errors.New("x\ny"))
	require.Equal(t, "<7>msg=four a=1 g.k=\"v w\"\n<6>msg=three a=1\n<4>msg=two a=1\n<3>msg=one a=1 g.err=\"x\\ny\"\n", out.String())
}

// A logger made before a change of level follows it.
func TestTheLevelChanges(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	log := newLog(&out, &level, "auto", false).With("a", 1)
	log.Debug("hidden")
	require.Empty(t, out.String())
	log.Info("text")
	require.Regexp(t, `^time=\S+ level=INFO msg=text a=1\n$`, out.String())
	out.Reset()
	level.Set(slog.LevelDebug)
	log.Debug("shown")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
}

// format = "text" and "json" hold in the journal too.
func TestFormatBeatsTheJournal(t *testing.T) {
	var out bytes.Buffer
	newLog(&out, slog.LevelInfo, "text", true).Info("x")
	require.True(t, strings.HasPrefix(out.String(), "time="))
	out.Reset()
	newLog(&out, slog.LevelDebug, "json", true).With("a", 1).Debug("json")
	require.Contains(t, out.String(), `"level":"DEBUG","msg":"json","a":1}`)
}
