package stub

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnsmsg"
)

// Result is the result of the self-test of all servers.
type Result uint8

// The results. With Unknown, the zero value, lookups fail. Only with Validating can answers be secure.
const (
	Unknown Result = iota
	NotTrusted
	EchoesAD
	NotValidating
	Validating
)

// String returns the result in words.
func (r Result) String() string {
	return [...]string{"unknown", "not trusted", "echoes AD", "not validating", "validating"}[min(int(r), 4)]
}

// Outcome is the result of a self-test, and the reason why it is not Validating.
type Outcome struct {
	Result Result `json:"-"`
	Reason string `json:"reason,omitempty"`
}

// State is what a Stub has learned about its servers. It is for display only, and its JSON form is stable.
type State struct {
	Servers []string `json:"servers"`
	Source  string   `json:"source"` // "settings" or the path of the resolv.conf
	Outcome
	Checked       time.Time `json:"checked,omitzero"`         // when the self-test last had a result
	FailingSince  time.Time `json:"failing_since,omitzero"`   // when the present outage began, or zero
	FailingReason string    `json:"failing_reason,omitempty"` // what failed last, and at which server
	Trusted       bool      `json:"trusted"`
	Validating    bool      `json:"validating"` // the self-test has been passed, so that answers can be secure
	SelfTest      string    `json:"self_test"`  // Result in words
}

// State returns the present state of the servers.
func (s *Stub) State() State {
	st := s.current.Load()
	since, reason := st.health.failingSince()
	return State{
		Servers: names(st.list), Source: st.options.source(), Outcome: st.Outcome, Checked: st.checked,
		FailingSince: since, FailingReason: reason,
		Trusted: st.Result != NotTrusted, Validating: st.Result == Validating, SelfTest: st.Result.String(),
	}
}

// recentTest is how long the result of a self-test counts as recent, and how long RetestSoon has no further effect.
const recentTest = 10 * time.Second

// RetestSoon makes Run repeat the self-test soon, because an answer is insecure although the last answer to the same
// question is secure. The owner of a zone can cause that too, so it has an effect at most once in ten seconds.
func (s *Stub) RetestSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.retestedAt) >= recentTest {
		s.retestedAt = time.Now()
		s.requestSelfTest()
	}
}

// Validates reports whether the servers pass the self-test now. If the last test ended more than ten seconds ago, it
// waits until Run has repeated it; if that test has no result, the earlier result counts. With e.CacheOnly it does not
// wait, and the error is dns.ErrNotCached.
func (s *Stub) Validates(ctx context.Context, e dns.Effort) (bool, error) {
	for {
		st := s.current.Load()
		if st.Result == NotTrusted || time.Since(st.tested) < recentTest {
			return st.Result == Validating, nil
		}
		if e.CacheOnly {
			return false, dns.ErrNotCached
		}
		s.RetestSoon()
		if !st.waitReplaced(ctx) {
			return st.Result == Validating, nil
		}
	}
}

// SelfTest tests every server now, and reports whether all have passed. Otherwise the test should be repeated soon,
// also if it was interrupted or another state has become the current one since it began. A test that no server answers
// does not change the earlier result.
func (s *Stub) SelfTest(ctx context.Context) bool {
	before := s.current.Load()
	if before.Result == NotTrusted || before.options.Off {
		return true
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(before.superseded, cancel)()
	outcomes := make([]Outcome, len(before.servers))
	var all sync.WaitGroup
	for i, server := range before.servers {
		all.Go(func() { outcomes[i] = s.testServer(ctx, before, server) })
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || s.current.Load() != before {
		return false
	}
	after := before.afterTest(outcomes)
	s.replace(after)
	logOutcome(before, &after)
	return !slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Result != Validating })
}

// afterTest returns the state after a self-test with these outcomes, in the order of the servers. If no server has a
// result, the earlier result and the servers that passed before remain. A different result begins a new epoch.
func (st *state) afterTest(outcomes []Outcome) state {
	after := *st
	after.tested = time.Now()
	after.passed = nil
	for i, server := range st.servers {
		result := outcomes[i].Result
		if result == Validating || result == Unknown && slices.Contains(st.passed, server) {
			after.passed = append(after.passed, server)
		}
	}
	worst := worstOf(outcomes)
	if worst.Result != Unknown {
		after.checked = after.tested
	}
	if worst.Result != Unknown || st.Result == Unknown {
		after.Outcome = worst
	}
	if after.Result != st.Result {
		after.answers++
	}
	return after
}

// worstOf returns the outcome that counts for a list of servers: the worst one of those with a result.
func worstOf(outcomes []Outcome) (worst Outcome) {
	for _, o := range outcomes {
		if worst.Result == Unknown || o.Result != Unknown && o.Result < worst.Result {
			worst = o
		}
	}
	return worst
}

// logOutcome logs the result of a self-test if it differs from the last one, or why there is still none.
func logOutcome(before, after *state) {
	log := after.options.Logger.With("servers", strings.Join(names(after.list), " "))
	switch {
	case after.Result == before.Result && (after.Result != Unknown || after.Reason == before.Reason):
	case after.Result == Unknown:
		log.Warn("the self-test of the resolver has no result; lookups fail until it has one", "reason", after.Reason)
	case after.Result == Validating:
		log.Info("resolver passed its self-test")
	default:
		log.Warn("resolver failed its self-test; treating all answers as insecure",
			"result", after.Result.String(), "reason", after.Reason)
	}
}

// testServer tests one server: it must set the AD bit in signed answers, and must not copy it from the query. A failure
// or a timeout makes the outcome Unknown, so that neither load nor a lost uplink makes the answers of a good resolver
// insecure. Only a server that has not passed yet must answer version.bind.
func (s *Stub) testServer(ctx context.Context, st *state, server *server) Outcome {
	signed := s.testSigned(ctx, st, server)
	if signed.Result == Unknown {
		return signed
	}
	version := dnsmsg.Query{Name: "version.bind.", Type: dns.TypeTXT, Class: dnsmsg.ClassCHAOS}
	for range 2 { // a server may drop the query, and so may a network
		m, err := s.send(ctx, st, server, version)
		if err != nil {
			continue
		}
		if m.AuthenticatedData() {
			return Outcome{EchoesAD,
				server.String() + " sets the AD bit even for version.bind: it copies it from the query"}
		}
		return signed
	}
	reason := server.String() + " does not answer version.bind CH TXT, so its AD bit may be a copy of the query's"
	if slices.Contains(st.passed, server) {
		return Outcome{Unknown, reason}
	}
	return Outcome{NotValidating, reason}
}

// testSigned asks for the NS RRsets of the self-test names in turn, until an answer has the AD bit; it may be the proof
// that the name does not exist. For that name it then asks twice for the addresses. These answers must have the AD bit
// too: some forwarders pass it on, but lose it when they answer from their own cache, which keeps no NS RRsets.
func (s *Stub) testSigned(ctx context.Context, st *state, server *server) Outcome {
	var answered, unsure bool // a useful answer has no AD bit; the next attempt may bring one that has it
	var reason string
names:
	for _, name := range st.options.SelfTestNames {
		for _, t := range []dns.Type{dns.TypeNS, dns.TypeA, dns.TypeA} {
			q, _ := dnsmsg.NewQuery(dns.Question{Name: name, Type: t})
			m, err := s.send(ctx, st, server, q)
			switch {
			case err == nil && m.Useful() && m.AuthenticatedData():
				continue
			case err != nil:
				unsure, reason = true, server.String()+": "+networkReason(err)
			case !m.Useful():
				unsure = unsure || t == dns.TypeA || m.Rcode() == dnsmsg.ServerFailure
				reason = server.String() + ": " + m.Failure() + " for " + t.String() + " " + q.Name
			case t == dns.TypeNS:
				answered = true
			default:
				return Outcome{NotValidating, server.String() + " does not set the AD bit for A " + q.Name +
					": it loses it in its cache, or does not validate"}
			}
			continue names
		}
		return Outcome{Result: Validating}
	}
	if unsure || !answered {
		return Outcome{Unknown, reason}
	}
	return Outcome{NotValidating, server.String() + " sets the AD bit for none of the self-test names"}
}
