package daemon

import (
	"bytes"
	"cmp"
	"io"
	"log/slog"
)

// newLog returns a log in a format of log.format, where "auto" means that of the journal if the log goes there.
func newLog(w io.Writer, level slog.Leveler, format string, toJournal bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(w, options))
	case format == "auto" && toJournal:
		w = journal{w}
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// journal writes lines in the form that the journal expects: with a priority (sd-daemon(3)) in place of the level, and
// without a time, which the journal adds itself.
type journal struct{ io.Writer }

// Write implements io.Writer for one line, which begins with the time and the level.
func (j journal) Write(line []byte) (int, error) {
	_, timeless, _ := bytes.Cut(line, []byte(" "))
	level, rest, _ := bytes.Cut(timeless, []byte(" "))
	priorities := map[string]string{"level=ERROR": "<3>", "level=WARN": "<4>", "level=INFO": "<6>"}
	_, err := io.WriteString(j.Writer, cmp.Or(priorities[string(level)], "<7>")+string(rest))
	return len(line), err
}
