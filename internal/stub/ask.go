package stub

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// ask asks one server after the other: a time-out or a network error leads to the next try, a failure that
// a server reports to the next server. What has come of it, it notes for the list as a whole.
func (s *Stub) ask(ctx context.Context, q dns.Question, now *state) (*dns.RRset, error) {
	began := time.Now()
	rrset, last, err := s.askEach(ctx, q, now)
	switch {
	case err == nil:
		s.drought.ends(time.Now())
	case ctx.Err() == nil, time.Since(began) >= now.options.Timeout: // else the caller had enough before the servers had their time
		s.drought.failed(q, began, at(last, err))
	}
	return rrset, err
}

// askEach is ask that says too whose failure is the one that it returns.
func (s *Stub) askEach(ctx context.Context, q dns.Question, now *state) (rrset *dns.RRset, last Server, failed error) {
	servers := s.penalties.order(now.candidates(), time.Now())
	query := newQuery(miekg.Fqdn(q.Name), uint16(q.Type), miekg.ClassINET)
	worst := 0 // grade that a server must have to be asked
	for try := range max(len(servers), 2) {
		server := servers[try%len(servers)]
		if now.grade(server) < worst {
			continue
		}
		timeout := now.options.Timeout
		if try > 0 {
			timeout = timeout * 5 / 3
		}
		began := time.Now()
		answer, err := s.try(ctx, tryOptions{state: now, server: server, timeout: timeout}, query)
		if now.options.Observe != nil {
			now.options.Observe(QueryEvent{Type: q.Type, Rcode: rcodeLabel(answer, err), Took: time.Since(began)})
		}
		if ctx.Err() == nil || err == nil { // that the caller had enough is no fault of the server
			s.rate(now, server, err)
		}
		if err == nil {
			s.late.answered(server, time.Since(began))
		}
		if err != nil {
			if failed == nil { // what a resolver says is worth more than a time-out
				last, failed = server, &dns.Error{Question: q, Reason: server.String() + ": " + networkReason(err), Err: err}
			}
			if ctx.Err() != nil || len(servers) == 1 && !timedOut(err) {
				break
			}
			continue
		}
		rrset, err := interpret(answer, verdict{question: q, secure: slices.Contains(now.proven, server), now: time.Now()})
		if err == nil {
			return rrset, server, nil
		}
		last, failed = server, err
		if answer.Rcode == miekg.RcodeServerFailure {
			// It may be bogus: who validates less would make an insecure answer of it.
			worst = max(worst, now.grade(server))
		}
		if ctx.Err() != nil || len(servers) == 1 {
			break
		}
	}
	return nil, last, failed
}

// candidates returns the servers that may be asked. Where some have passed the self-test, the others are left out: they
// may not validate, and what they answer would be weaker.
func (st *state) candidates() []Server {
	if st.result == Validating {
		return st.proven
	}
	return st.servers
}

// grade orders servers by how much they can be relied on to tell a bogus answer from others.
func (st *state) grade(server Server) int {
	grade := 0
	if yes, _ := st.options.Trust.trusts([]Server{server}); yes {
		grade++
	}
	if slices.Contains(st.passed, server) {
		grade++
	}
	return grade
}

// tryOptions say how a query is sent.
type tryOptions struct {
	state   *state
	server  Server
	timeout time.Duration
}

// try sends a query to one server once.
func (s *Stub) try(ctx context.Context, o tryOptions, query *miekg.Msg) (*miekg.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	query = query.Copy()
	query.Id = miekg.Id()
	wire := s.wire
	if wire == nil {
		wire = s.network(o.state.options)
	}
	return wire.exchange(limited, o.server, query)
}

func (s *Stub) network(o Options) exchanger { return wire{roots: o.RootCAs, buffers: &s.buffers} }

// rate has a server that did not answer asked last for a while, and says once that it does not. One that answers again
// is tested again: who knows what has been started there.
func (s *Stub) rate(now *state, server Server, err error) {
	log := now.options.Logger
	if err != nil {
		if s.penalties.punish(server, time.Now()) {
			log.Warn("a DNS server does not answer", "server", server.String(), "reason", networkReason(err))
		}
		return
	}
	punished, said := s.penalties.pardon(server, time.Now())
	if said {
		log.Info("a DNS server answers again", "server", server.String())
	}
	if punished {
		s.testAgain()
	}
}

// rcodeLabel is QueryEvent.Rcode: a word of a closed list, whatever a server sends.
func rcodeLabel(answer *miekg.Msg, err error) string {
	switch {
	case err == nil:
		if text, ok := miekg.RcodeToString[answer.Rcode]; ok {
			return text
		}
	case timedOut(err) && !errors.Is(err, context.Canceled):
		return "timeout"
	}
	return "error"
}

// penalties have servers that did not answer asked last, so that a dead one among several costs one lookup its time
// now and then, and not every lookup.
type penalties struct {
	mu    sync.Mutex
	until map[Server]time.Time
	said  map[Server]said
	// outage is the one that goes on, nil where every server answers.
	outage *outage
	// ended counts the outages that have ended.
	ended atomic.Uint32
}

// said is that a log line says of a server that it does not answer.
type said struct {
	at   time.Time
	last bool // and none since that it does
}

const (
	penalty = 30 * time.Second
	// saidAgain is how long it is not said again of a server that it does not answer. A stranger's slow name servers
	// make a server that is well look dead for a moment, as often as the stranger likes.
	saidAgain = time.Minute
)

// order returns the servers in the order in which they are asked. One whose penalty has ended is tried again by the
// one lookup that comes first: for the others the penalty goes on until it has answered.
func (p *penalties) order(servers []Server, now time.Time) []Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.until) == 0 || len(servers) < 2 {
		return servers
	}
	var quick, slow []Server
	for _, s := range servers {
		until, punished := p.until[s]
		switch {
		case punished && now.Before(until):
			slow = append(slow, s)
		case punished:
			p.until[s] = now.Add(penalty)
			fallthrough
		default:
			quick = append(quick, s)
		}
	}
	return append(quick, slow...)
}

// punish says whether there is news for the log.
func (p *penalties) punish(s Server, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until, p.said = map[Server]time.Time{}, map[Server]said{}
	}
	p.until[s] = now.Add(penalty)
	p.begins(now)
	if before, ever := p.said[s]; ever && (before.last || now.Sub(before.at) < saidAgain) {
		return false
	}
	p.said[s] = said{at: now, last: true}
	return true
}

// pardon says whether there was a penalty to be lifted, and whether that is news for the log.
func (p *penalties) pardon(s Server, now time.Time) (punished, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, punished = p.until[s]; !punished {
		return false, false
	}
	delete(p.until, s)
	p.ends(now)
	last := p.said[s]
	p.said[s] = said{at: last.at}
	return true, last.last
}

// silent returns those of servers that did not answer when they were last asked.
func (p *penalties) silent(servers []Server) (silent []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range servers {
		if _, punished := p.until[s]; punished {
			silent = append(silent, s.String())
		}
	}
	return silent
}

func (p *penalties) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.until)
	p.outage = nil
	clear(p.said)
}
