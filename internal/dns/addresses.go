package dns

import (
	"context"
	"slices"
	"time"
)

// HeadStart is how long the question for AAAA waits for the answer to A where one address family is probably enough.
const HeadStart = 250 * time.Millisecond

// Addresses asks for the A and AAAA records of a host. It returns a function that waits for the next of both answers,
// but not longer than until: after that the call has an error. With Effort.CacheOnly, or if one address family is
// probably enough (one), it asks for A first, and for AAAA only when that is needed. With one, AAAA is needed if the
// answer to A is late, or is not a secure answer about the name itself.
func Addresses(ctx context.Context, r Starter, host string, e Effort, one bool) (
	next func(until time.Time) *Call,
) {
	questions := []Question{{Name: host, Type: TypeA}, {Name: host, Type: TypeAAAA}}
	var calls []*Call
	ask := func() {
		calls = append(calls, r.Start(ctx, questions[0], e))
		questions = questions[1:]
	}
	if ask(); !one && !e.CacheOnly {
		ask()
	}
	return func(until time.Time) *Call {
		soon := min(HeadStart, time.Until(until))
		if len(questions) > 0 && (len(calls) == 0 || firstOf(ctx, soon, calls) < 0) {
			ask()
		}
		i := firstOf(ctx, time.Until(until), calls)
		if i < 0 {
			q := calls[0].Question
			return &Call{Question: q, Err: &Error{Question: q, Reason: "no answer in time"}}
		}
		answer := calls[i]
		calls = slices.Delete(calls, i, i+1)
		enough := answer.Err == nil && answer.RRset.Status == Secure && answer.RRset.Owner == answer.RRset.Name
		if len(questions) > 0 && !e.CacheOnly && !enough {
			ask() // concurrently with what the caller asks because of this answer, which can take as long
		}
		return answer
	}
}
