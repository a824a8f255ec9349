package lookup

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/socketmap"
)

// LogMode says which decisions are logged.
type LogMode uint8

// The log modes: a decision that differs from the last one for the same next hop; every one; none.
const (
	LogChanges LogMode = iota
	LogAll
	LogNone
)

func logModes() []string { return []string{"changes", "all", "none"} }

// String returns the mode as it is written in the settings.
func (m LogMode) String() string { return logModes()[min(int(m), 2)] }

// MarshalText implements encoding.TextMarshaler.
func (m LogMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes all, changes or none.
func (m *LogMode) UnmarshalText(b []byte) error {
	i := slices.Index(logModes(), string(b))
	if i < 0 {
		return fmt.Errorf("%q is none of %s", b, strings.Join(logModes(), ", "))
	}
	*m = LogMode(i)
	return nil
}

// changes remembers the last decision for as many next hops as it has slots, as hashes: the memory is
// fixed whatever strangers ask for. Two next hops that share a slot are logged more often than need be.
type changes struct {
	seed  maphash.Seed
	slots [1 << 14]atomic.Uint64 // hash of the next hop in the upper half, of the decision in the lower
	limit *rate.Limiter          // strangers choose the next hops of transport lookups
}

func newChanges() *changes {
	const linesPerSecond, burst = 20, 200
	return &changes{seed: maphash.MakeSeed(), limit: rate.NewLimiter(linesPerSecond, burst)}
}

// differs says whether d is another decision than the last one for next. A next hop that never had a
// policy and has none now is no news.
func (c *changes) differs(m mapID, next policy.Nexthop, d *policy.Decision) bool {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(next.Name) // maphash never fails
	_ = h.WriteByte(byte(m))
	_ = h.WriteByte(byte(next.Port))
	_ = h.WriteByte(byte(next.Port >> 8))
	if next.Host {
		_ = h.WriteByte(1)
	}
	const upper = uint64(0xffffffff) << 32
	key := h.Sum64()
	slot := &c.slots[key%uint64(len(c.slots))]
	now := key&upper | uint64(d.Would.Status)
	nothing := d.Would.Status == socketmap.StatusNotFound && d.Source == policy.SourceNone
	if d.Would.Status == socketmap.StatusOK {
		now = key&upper | maphash.String(c.seed, d.Would.Text)&^upper
	}
	before := slot.Load()
	if before == now || nothing && before&upper != key&upper {
		return false
	}
	slot.Store(now)
	return true
}

// note logs a decision as the settings ask for.
func (s *Service) note(m mapID, next policy.Nexthop, d *policy.Decision, set *Settings) {
	level, changed := slog.LevelDebug, false
	switch {
	case set.Log == LogNone:
		return
	case set.Log == LogAll:
		level = slog.LevelInfo
	case s.changes.differs(m, next, d) && s.changes.limit.Allow():
		level, changed = slog.LevelInfo, true
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, level) {
		return
	}
	s.log.LogAttrs(ctx, level, "decision",
		slog.String("map", m.String()),
		slog.String("nexthop", next.String()),
		slog.Bool("changed", changed),
		slog.String("answer", d.Would.String()),
		slog.String("mode", set.Policy.Mode.String()),
		slog.String("source", d.Source.String()),
		slog.Bool("unsigned", d.Unsigned),
		slog.String("reason", strings.Join(d.Why, "; ")))
}

// noteAgain logs a decision that is the same as the last time, where the settings ask for every one.
func (s *Service) noteAgain(m mapID, a *answered, set *Settings) {
	if set.Log == LogAll || set.Log == LogChanges && s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.note(m, a.next, &a.decision, set)
	}
}

// panicked logs and counts what must not happen. The message never holds the request: it may have a
// local part.
func (s *Service) panicked(where, what string) {
	s.counters.panics.Add(1)
	s.log.Error("panic in a lookup: please report this", slog.String("where", where), slog.String("err", what), slog.String("stack", string(debug.Stack())))
}
