package dns

import (
	"context"
	"slices"
	"time"
)

// HeadStart is how long only one address family of a host is asked for, where that is enough in all likelihood.
const HeadStart = 250 * time.Millisecond

// Addresses asks for the A and AAAA records of a host, and returns a function that waits until then for the next answer
// to arrive. With Effort.CacheOnly, and with one, the questions are asked one after the other, as they are needed. With
// one, AAAA is needed where A is late, or shows nothing secure about the name itself.
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
		soon := time.Now().Add(HeadStart)
		if soon.After(until) {
			soon = until
		}
		if len(questions) > 0 && (len(calls) == 0 || firstOf(ctx, soon, calls) < 0) {
			ask()
		}
		i := firstOf(ctx, until, calls)
		if i < 0 {
			q := calls[0].Question
			return &Call{Question: q, Err: &Error{Question: q, Reason: "no answer in time"}}
		}
		answer := calls[i]
		calls = slices.Delete(calls, i, i+1)
		enough := answer.Err == nil && answer.RRset.Status == Secure && answer.RRset.Owner == answer.RRset.Name
		if len(questions) > 0 && !e.CacheOnly && !enough {
			ask() // what the caller asks because of this answer can take as long as the other one
		}
		return answer
	}
}
