package dns

import (
	"context"
	"slices"
	"time"
)

// Families is how many address families of a host an AddressLookup asks for. With Effort.CacheOnly it does not
// matter: A is looked up first, and AAAA when Next is called again.
type Families string

// The values of Families.
const (
	BothFamilies Families = "both" // A and AAAA are asked for concurrently
	// OneIsEnough is for a host of which one family is probably enough. A is asked for first. AAAA is asked for only if
	// the answer to A does not arrive within HeadStart or is not a secure answer about the name itself, or when Next is
	// called again.
	OneIsEnough Families = "one"
)

// HeadStart is how long the question for AAAA waits for the answer to A with OneIsEnough.
const HeadStart = 250 * time.Millisecond

// AddressLookup is a lookup of the A and AAAA records of a host in progress.
type AddressLookup struct {
	ctx      context.Context
	resolver Starter
	effort   Effort
	unasked  []Question
	calls    []*Call // the calls whose answers Next has not returned yet
}

// AddressAnswer is the answer to the question for one address family: RRset or Err is set.
type AddressAnswer struct {
	Question Question
	RRset    *RRset
	Err      error // why the lookup failed, or that the answer is Late
	// Late is set if no answer has arrived by the caller's deadline. The lookup continues.
	Late bool
}

// StartAddresses starts the lookup of the addresses of a host. Next does not wait longer than until ctx ends.
func StartAddresses(ctx context.Context, r Starter, host string, e Effort, f Families) *AddressLookup {
	questions := []Question{{Name: host, Type: TypeA}, {Name: host, Type: TypeAAAA}}
	l := &AddressLookup{ctx: ctx, resolver: r, effort: e, unasked: questions}
	l.ask()
	if f == BothFamilies && !e.CacheOnly {
		l.ask()
	}
	return l
}

// ask asks the next question.
func (l *AddressLookup) ask() {
	l.calls = append(l.calls, l.resolver.Start(l.ctx, l.unasked[0], l.effort))
	l.unasked = l.unasked[1:]
}

// Next waits for the next of the two answers, but not longer than until. If none arrives, the AddressAnswer that it
// returns is Late, and a later call of Next can return the answer. It must not be called after it has returned both.
func (l *AddressLookup) Next(until time.Time) AddressAnswer {
	if len(l.unasked) > 0 {
		headStart := min(HeadStart, time.Until(until))
		if len(l.calls) == 0 || firstOf(l.ctx, headStart, l.calls) < 0 {
			l.ask()
		}
	}
	i := firstOf(l.ctx, time.Until(until), l.calls)
	if i < 0 {
		q := l.calls[0].Question
		return AddressAnswer{Question: q, Late: true, Err: &Error{Question: q, Reason: "no answer in time"}}
	}
	call := l.calls[i]
	l.calls = slices.Delete(l.calls, i, i+1)
	enough := call.Err == nil && call.RRset.Status == Secure && call.RRset.Owner == call.RRset.Name
	if len(l.unasked) > 0 && !l.effort.CacheOnly && !enough {
		l.ask() // concurrently with the next lookups of the caller, which can take as long
	}
	return AddressAnswer{Question: call.Question, RRset: call.RRset, Err: call.Err}
}
