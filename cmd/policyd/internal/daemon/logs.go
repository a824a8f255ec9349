package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
)

// logs are the log, of which level and format can change while it is in use.
type logs struct {
	out     *lockedWriter
	journal bool // what "auto" means
	level   slog.LevelVar
	handler atomic.Pointer[slog.Handler]
}

func newLogs(w io.Writer, journal bool) *logs {
	l := &logs{out: &lockedWriter{w: w}, journal: journal}
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

// journalHandler writes lines as the journal takes them: a priority (sd-daemon(3)) in front, and no time, which the
// journal adds itself.
type journalHandler struct {
	slog.Handler
	out *prefixed // where Handler writes
}

func newJournalHandler(w io.Writer, level slog.Leveler) slog.Handler {
	out := &prefixed{w: w}
	return journalHandler{out: out, Handler: slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

// Handle implements slog.Handler.
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	switch {
	case r.Level >= slog.LevelError:
		h.out.prefix = "<3>"
	case r.Level >= slog.LevelWarn:
		h.out.prefix = "<4>"
	case r.Level >= slog.LevelInfo:
		h.out.prefix = "<6>"
	default:
		h.out.prefix = "<7>"
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return journalHandler{h.Handler.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h journalHandler) WithGroup(name string) slog.Handler {
	return journalHandler{h.Handler.WithGroup(name), h.out}
}

// prefixed puts a prefix before every write, which is one line. Handle holds mu while it sets the prefix and writes.
type prefixed struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
}

// Write implements io.Writer.
func (p *prefixed) Write(line []byte) (int, error) {
	if _, err := p.w.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// lockedWriter keeps the lines of several handlers apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
