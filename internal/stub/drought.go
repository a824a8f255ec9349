package stub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

const (
	// droughtNames is how many different names must have failed in succession for it to be the servers' fault and not the
	// names': somebody may ask for one that is bogus again and again.
	droughtNames = 3
	// droughtLeast is how long no question must have had an answer for that to be said.
	droughtLeast = 5 * time.Second
)

// drought is a time in which no question has an answer that is of use, whichever server is asked: they are dead or mute,
// or they answer SERVFAIL or REFUSED to everything. It is for people only. The zero drought is none. Only questions
// that the cache cannot answer come here.
type drought struct {
	mu       sync.Mutex
	answered time.Time    // when the last answer that is of use came
	since    time.Time    // when the first question was asked that has failed since then; zero: none has
	names    []string     // that have failed since then, each once, at most droughtNames
	last     dns.Question // that failed
	reason   string       // and why
	fresh    bool         // the servers have not been looked at since it failed
	ours     bool         // a question of our own, whose name is sound, has failed too
}

// ends notes an answer that is of use, or that other servers are asked.
func (d *drought) ends(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered = now
	d.since, d.names, d.last, d.reason, d.fresh, d.ours = time.Time{}, d.names[:0], dns.Question{}, "", false, false
}

// failed notes that no server had an answer. A question that was asked before the last answer came says nothing about
// the time after it.
func (d *drought) failed(q dns.Question, asked time.Time, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if asked.Before(d.answered) {
		return
	}
	if d.since.IsZero() || asked.Before(d.since) {
		d.since = asked
	}
	d.last, d.reason, d.fresh = q, reason, true
	if name := apart(q.Name); len(d.names) < droughtNames && !slices.Contains(d.names, name) {
		d.names = append(d.names, name)
	}
}

// checked notes whether a question of our own, asked to all servers, has failed too.
func (d *drought) checked(asked time.Time, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.since.IsZero() && !asked.Before(d.answered) {
		d.fresh, d.ours = false, failed
	}
}

// watched returns the question that failed last, and whether the servers should be looked at.
func (d *drought) watched() (last dns.Question, yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last, d.fresh || d.isFor()
}

// isFor says whether it is for the servers that questions fail; d.mu is held.
func (d *drought) isFor() bool { return d.ours || len(d.names) >= droughtNames }

// state returns since when no question has an answer, zero where that is not so, and what failed last.
func (d *drought) state(now time.Time) (since time.Time, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since.IsZero() || !d.isFor() || now.Sub(d.since) < droughtLeast {
		return time.Time{}, ""
	}
	return d.since, d.reason
}

// askAgain asks those servers that answered a question of our own for what failed last: they may know our name by heart,
// and nothing else.
func (s *Stub) askAgain(ctx context.Context, o tryOptions, q dns.Question, servers []Server) {
	for _, server := range servers {
		o.server = server
		answer, err := s.try(ctx, o, newQuery(miekg.Fqdn(q.Name), uint16(q.Type), miekg.ClassINET))
		if err == nil && ofUse(answer) && s.now.Load().gone == o.state.gone {
			s.drought.ends(time.Now())
			return
		}
	}
}

// ofUse says whether an answer says something about its name.
func ofUse(answer *miekg.Msg) bool {
	return answer.Rcode == miekg.RcodeSuccess || answer.Rcode == miekg.RcodeNameError
}

// apart returns the name without the labels in front that begin with an underscore: _mta-sts.example.com fails with
// example.com.
func apart(name string) string {
	for strings.HasPrefix(name, "_") {
		_, rest, more := strings.Cut(name, ".")
		if !more {
			break
		}
		name = rest
	}
	return name
}

// at returns why a lookup failed, and at which server.
func at(server Server, err error) string {
	var failed *dns.Error
	if !errors.As(err, &failed) {
		return server.String()
	}
	if failed.Err != nil { // the reason has the server already
		return failed.Reason
	}
	return server.String() + ": " + failed.Reason
}
