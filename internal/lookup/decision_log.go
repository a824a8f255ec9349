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

// due notes an answer, and reports whether to log it: it differs from the last one for the same next hop, and not too
// many were logged. The first answer for a next hop is not a change if there is no policy.
func (c *changes) due(m string, a *answered) bool {
	const upper = uint64(0xffffffff) << 32
	key := maphash.String(c.seed, m+" "+a.next.String())
	slot := &c.slots[key%uint64(len(c.slots))]
	entry := key&upper | uint64(a.reply.Status)
	if a.reply.Status == socketmap.StatusOK {
		entry = key&upper | maphash.String(c.seed, a.reply.Text)&^upper
	}
	before := slot.Load()
	noPolicy := a.reply.Status == socketmap.StatusNotFound && a.decision.Source() == policy.SourceNone
	isNew := before&upper != key&upper
	if before == entry || noPolicy && isNew {
		return false
	}
	slot.Store(entry)
	return c.limit.Allow()
}

// logDecision logs a decision as the settings require. An answer from the memo is not a change.
func (s *Service) logDecision(c *call, a *answered, fromMemo bool) {
	level := slog.LevelDebug
	changed := false
	switch {
	case c.set.Log == LogNone:
		return
	case c.set.Log == LogAll:
		level = slog.LevelInfo
	case !fromMemo:
		changed = s.changes.due(c.m, a)
	}
	if changed {
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, level) {
		return
	}
	s.log.Log(ctx, level, "decision", "map", c.m, "nexthop", a.next.String(), "changed", changed,
		"answer", a.reply.String(), "mode", string(c.set.Policy.Mode), "source", string(a.decision.Source()),
		"unsigned", a.decision.Unsigned, "reason", strings.Join(a.decision.Why, "; "))
}

// panicked logs and counts a panic. The message never contains the request, which may have a local part.
func (s *Service) panicked(where string, p any) {
	s.panics.Add(1)
	s.log.Error("panic in a lookup: please report this", "where", where, "err", fmt.Sprint(p), "stack",
		string(debug.Stack()))
}
