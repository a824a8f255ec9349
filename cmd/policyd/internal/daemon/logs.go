package daemon

import (
	"bytes"
	"cmp"
	"io"
	"log/slog"
	"slices"
)

// newLog returns a log in a format of log.format, where "auto" means that of the journal if the log goes there.
func newLog(w io.Writer, level slog.Leveler, format string, toJournal bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(w, options))
	case format == "auto" && toJournal:
		options.ReplaceAttr = replaceForJournal
		w = journal{w}
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// journal writes lines as the journal takes them: with a priority (sd-daemon(3)) in front, and without a time, which
// the journal adds itself. replaceForJournal makes the priority the first attribute.
type journal struct{ io.Writer }

// Write implements io.Writer for one line.
func (j journal) Write(line []byte) (int, error) {
	level, rest, _ := bytes.Cut(bytes.TrimPrefix(line, []byte(slog.LevelKey+"=")), []byte(" "))
	_, err := j.Writer.Write(slices.Concat(level, rest))
	return len(line), err
}

func replaceForJournal(groups []string, a slog.Attr) slog.Attr {
	level, ok := a.Value.Any().(slog.Level)
	switch {
	case len(groups) > 0:
	case ok && a.Key == slog.LevelKey:
		priorities := map[slog.Level]string{slog.LevelError: "<3>", slog.LevelWarn: "<4>", slog.LevelInfo: "<6>"}
		return slog.String(slog.LevelKey, cmp.Or(priorities[level], "<7>"))
	case a.Key == slog.TimeKey:
		return slog.Attr{}
	}
	return a
}
