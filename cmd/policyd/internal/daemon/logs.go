package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
)

// logs are the log, of which level and format can change while it is in use. Two handlers may write concurrently then:
// out writes each line as a whole, as an os.File does.
type logs struct {
	out     io.Writer
	journal bool // what "auto" means
	level   slog.LevelVar
	handler atomic.Pointer[slog.Handler]
}

func newLogs(w io.Writer, journal bool) *logs {
	l := &logs{out: w, journal: journal}
	l.configure(slog.LevelInfo, "auto")
	return l
}

// configure changes level and format.
func (l *logs) configure(level slog.Level, format string) {
	l.level.Set(level)
	var h slog.Handler
	options := &slog.HandlerOptions{Level: &l.level}
	switch {
	case format == "json":
		h = slog.NewJSONHandler(l.out, options)
	case format == "auto" && l.journal:
		h = newJournalHandler(l.out, &l.level)
	default:
		h = slog.NewTextHandler(l.out, options)
	}
	l.handler.Store(&h)
}

func (l *logs) logger() *slog.Logger {
	return slog.New(&changing{logs: l, derive: func(h slog.Handler) slog.Handler { return h }})
}

// changing is a handler that follows a change of format, also under a logger that was derived before it.
type changing struct {
	logs   *logs
	derive func(slog.Handler) slog.Handler
}

// Enabled implements slog.Handler.
func (c *changing) Enabled(_ context.Context, level slog.Level) bool {
	return level >= c.logs.level.Level()
}

// Handle implements slog.Handler.
func (c *changing) Handle(ctx context.Context, r slog.Record) error {
	return c.derive(*c.logs.handler.Load()).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (c *changing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &changing{logs: c.logs, derive: func(h slog.Handler) slog.Handler { return c.derive(h).WithAttrs(attrs) }}
}

// WithGroup implements slog.Handler.
func (c *changing) WithGroup(name string) slog.Handler {
	return &changing{logs: c.logs, derive: func(h slog.Handler) slog.Handler { return c.derive(h).WithGroup(name) }}
}

// journal writes lines as the journal takes them: with a priority (sd-daemon(3)) in front, and without a time, which
// the journal adds itself. Its handler makes the priority the first attribute.
type journal struct{ io.Writer }

func newJournalHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewTextHandler(journal{w}, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if level, ok := a.Value.Any().(slog.Level); ok && a.Key == slog.LevelKey && len(groups) == 0 {
				return slog.String(slog.LevelKey, priority(level))
			}
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	})
}

func priority(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "<3>"
	case level >= slog.LevelWarn:
		return "<4>"
	case level >= slog.LevelInfo:
		return "<6>"
	}
	return "<7>"
}

// Write implements io.Writer for one line.
func (j journal) Write(line []byte) (int, error) {
	level, rest, _ := bytes.Cut(bytes.TrimPrefix(line, []byte(slog.LevelKey+"=")), []byte(" "))
	if _, err := j.Writer.Write(slices.Concat(level, rest)); err != nil {
		return 0, err
	}
	return len(line), nil
}
