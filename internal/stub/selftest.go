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

// The results. Unknown, the zero value, is no result: lookups fail. Only Validating lets answers be secure.
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

// State is what a Stub knows about its servers. It is for display only, and its JSON form is stable.
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
	now := s.now.Load()
	since, reason := now.health.state()
	return State{names(now.list), now.options.source(), now.Outcome, now.checked, since, reason,
		now.Result != NotTrusted, now.Result == Validating, now.Result.String()}
}

// SelfTest tests every server now, and reports whether all have passed. Otherwise the test should be repeated soon,
// also if it was interrupted or another state has been put in force since it began. A test that no server answers does
// not change the earlier result.
func (s *Stub) SelfTest(ctx context.Context) bool {
	before := s.now.Load()
	if before.Result == NotTrusted || before.options.Off {
		return true
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(before.inForce, cancel)()
	outcomes := make([]Outcome, len(before.servers))
	var all sync.WaitGroup
	for i, server := range before.servers {
		all.Go(func() { outcomes[i] = s.testServer(ctx, before, server) })
	}
	all.Wait()
	after := before.judge(outcomes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || s.now.Load() != before {
		return false
	}
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
	s.replace(after)
	return !slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Result != Validating })
}

// judge returns the state after a self-test.
func (st *state) judge(outcomes []Outcome) state {
	after := *st
	after.Outcome, after.passed, after.tested = Outcome{}, nil, time.Now()
	for i, out := range outcomes {
		server := st.servers[i]
		if out.Result == Validating || out.Result == Unknown && slices.Contains(st.passed, server) {
			after.passed = append(after.passed, server)
		}
		// The worst result counts for the list. A server that did not answer has none.
		if after.Result == Unknown || out.Result != Unknown && out.Result < after.Result {
			after.Outcome = out
		}
	}
	switch {
	case after.Result != Unknown:
		after.checked = after.tested
	case st.Result != Unknown:
		after.Outcome = st.Outcome
	}
	if after.Result != st.Result {
		after.answers++
	}
	return after
}

// testServer tests one server. A failure or a timeout says nothing about it: the outcome is Unknown, and an earlier one
// stays in force, so that neither load nor a lost uplink makes the answers of a good resolver insecure.
func (s *Stub) testServer(ctx context.Context, st *state, server *server) Outcome {
	signed := s.testSigned(ctx, st, server)
	if signed.Result == Unknown {
		return signed
	}
	version := dnsmsg.Query{Name: "version.bind.", Type: dns.TypeTXT, Class: dnsmsg.ClassCHAOS}
	for range 2 { // a server may drop the question, and so may a network
		if m, err := s.send(ctx, st, server, version); err == nil && m.AuthenticatedData() {
			return Outcome{EchoesAD,
				server.String() + " sets the AD bit even for version.bind: it copies it from the query"}
		} else if err == nil {
			return signed
		}
	}
	reason := server.String() + " does not answer version.bind CH TXT, so its AD bit may be a copy of the query's"
	if slices.Contains(st.passed, server) {
		return Outcome{Unknown, reason}
	}
	return Outcome{NotValidating, reason}
}

// testSigned asks for the NS RRset of the names that are signed: one AD bit suffices, also that of the proof that the
// name does not exist. For that name it asks twice for the addresses: some forwarders pass the AD bit on, but lose it
// when they answer from their own cache, which keeps no NS RRsets.
func (s *Stub) testSigned(ctx context.Context, st *state, server *server) Outcome {
	answered, unsure, reason := false, false, ""
names:
	for _, name := range st.options.SelfTestNames {
		for _, t := range []dns.Type{dns.TypeNS, dns.TypeA, dns.TypeA} {
			q, _ := dnsmsg.NewQuery(dns.Question{Name: name, Type: t})
			m, err := s.send(ctx, st, server, q)
			switch {
			case err != nil:
				unsure, reason = true, server.String()+": "+networkReason(err)
			case !m.Useful():
				unsure = unsure || t == dns.TypeA || m.Rcode() == dnsmsg.ServerFailure
				reason = server.String() + ": " + m.Failure() + " for " + t.String() + " " + q.Name
			case m.AuthenticatedData():
				continue
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
