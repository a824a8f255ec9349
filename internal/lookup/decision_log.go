package lookup

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/socketmap"
)

// LogMode selects the decisions that are logged.
type LogMode string

// The log modes: a decision that differs from the last one for the same next hop (the zero value too); all; none.
const (
	LogChanges LogMode = "changes"
	LogAll     LogMode = "all"
	LogNone    LogMode = "none"
)

// changes remembers the last decision for as many next hops as it has slots, as hashes: its memory is fixed, whatever
// untrusted senders ask for. Two next hops that share a slot are logged more often than necessary.
type changes struct {
	seed  maphash.Seed
	slots [1 << 14]atomic.Uint64 // hash of the next hop in the upper half, of the answer in the lower
	limit *rate.Limiter
}

// The bounds on log lines: untrusted senders choose the next hops of transport lookups.
const linesPerSecond, linesBurst = 20, 200

// differs reports whether the answer is another one than the last for the same next hop. A next hop that never had a
// policy and has none now is not a change.
func (c *changes) differs(m string, a *answered) bool {
	const upper = uint64(0xffffffff) << 32
	key := maphash.String(c.seed, m+" "+a.next.String())
	slot := &c.slots[key%uint64(len(c.slots))]
	now := key&upper | uint64(a.reply.Status)
	nothing := a.reply.Status == socketmap.StatusNotFound && a.decision.Source() == policy.SourceNone
	if a.reply.Status == socketmap.StatusOK {
		now = key&upper | maphash.String(c.seed, a.reply.Text)&^upper
	}
	before := slot.Load()
	if before == now || nothing && before&upper != key&upper {
		return false
	}
	slot.Store(now)
	return true
}

// note logs a decision as the settings require: again is set for an answer that is given once more.
func (s *Service) note(c *call, a *answered, again bool) {
	level, changed := slog.LevelDebug, false
	switch {
	case c.set.Log == LogNone:
		return
	case c.set.Log == LogAll:
		level = slog.LevelInfo
	case !again && s.changes.differs(c.m, a) && s.changes.limit.Allow():
		level, changed = slog.LevelInfo, true
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, level) {
		return
	}
	s.log.Log(ctx, level, "decision", "map", c.m, "nexthop", a.next.String(), "changed", changed,
		"answer", a.reply.String(), "mode", string(c.set.Policy.Mode), "source", string(a.decision.Source()),
		"unsigned", a.decision.Unsigned, "reason", strings.Join(a.decision.Why, "; "))
}

// panicked logs and counts a panic. The message never has the request, which may have a local part.
func (s *Service) panicked(where string, p any) {
	s.panics.Add(1)
	s.log.Error("panic in a lookup: please report this", "where", where, "err", fmt.Sprint(p), "stack",
		string(debug.Stack()))
}
