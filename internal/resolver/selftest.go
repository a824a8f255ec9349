package resolver

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Result is what the self-test has found out about the servers.
type Result uint8

// The results. Unknown, the zero value, is no result: lookups fail. Only Validating lets answers be secure.
const (
	Unknown Result = iota
	NotTrusted
	EchoesAD
	NotValidating
	Validating
)

// String returns the result for people.
func (r Result) String() string {
	return [...]string{"unknown", "not trusted", "echoes AD", "not validating", "validating"}[min(int(r), 4)]
}

// State is what a Stub knows about its servers, for people.
type State struct {
	Servers []string
	// Source is "settings" or the path of the resolv.conf.
	Source  string
	Trusted bool
	Result  Result
	// Reason says why the result is not Validating.
	Reason string
	// Checked is when the self-test last had a result.
	Checked time.Time
}

// State returns what is known about the servers.
func (s *Stub) State() State {
	now, _ := s.snapshot()
	st := State{Source: now.source, Trusted: now.trusted, Result: now.result, Reason: now.reason, Checked: now.checked}
	for _, server := range now.servers {
		st.Servers = append(st.Servers, server.String())
	}
	return st
}

// The self-test is repeated after these times: with back-off until every server has passed, then now and again.
const (
	selfTestSoon  = time.Second
	selfTestLate  = 30 * time.Second
	selfTestAgain = 10 * time.Minute
	confInterval  = 2 * time.Second
)

// Run tests the servers, follows resolv.conf and returns when ctx ends.
func (s *Stub) Run(ctx context.Context) error {
	conf := time.NewTicker(confInterval)
	defer conf.Stop()
	test := time.NewTimer(0)
	defer test.Stop()
	wait := selfTestSoon
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conf.C:
			s.followResolvConf()
		case <-s.change:
			wait = selfTestSoon
			test.Reset(0)
		case <-test.C:
			if s.SelfTest(ctx) {
				wait = selfTestSoon
				test.Reset(selfTestAgain)
			} else {
				test.Reset(wait)
				wait = min(2*wait, selfTestLate)
			}
		}
	}
}

// followResolvConf takes the servers of the resolv.conf if they have changed. A file that cannot be read leaves
// the servers as they are.
func (s *Stub) followResolvConf() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.options.Servers) > 0 {
		return
	}
	servers, source, err := serversOf(s.options)
	if err != nil || slices.Equal(servers, s.state.servers) {
		return
	}
	s.use(servers, source)
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// SelfTest tests every server now: one that sets AD where nothing can be validated lies (EchoesAD); one that sets
// it for a signed name validates. It returns whether the test need not be repeated soon. A test that no server
// answered is no result and leaves an earlier one in force.
func (s *Stub) SelfTest(ctx context.Context) bool {
	before, o := s.snapshot()
	if !before.trusted {
		return true
	}
	type outcome struct {
		result Result
		reason string
	}
	outcomes := make([]outcome, len(before.servers))
	var all sync.WaitGroup
	for i, server := range before.servers {
		all.Go(func() { outcomes[i].result, outcomes[i].reason = s.testServer(ctx, server, o) })
	}
	all.Wait()
	after := before
	after.result, after.reason, after.proven = Unknown, "", nil
	complete := true
	for i, out := range outcomes {
		server := before.servers[i]
		complete = complete && out.result != Unknown
		if out.result == Validating || out.result == Unknown && slices.Contains(before.proven, server) {
			after.proven = append(after.proven, server)
		}
		// The worst answer counts for the list; a server that did not answer says nothing.
		if out.result != Unknown && (after.result == Unknown || out.result < after.result) {
			after.result, after.reason = out.result, out.reason
		}
		if after.result == Unknown {
			after.reason = out.reason
		}
	}
	if after.result == Unknown && before.result != Unknown {
		after.result, after.reason, after.proven = before.result, before.reason, before.proven
	} else if after.result != Unknown {
		after.checked = time.Now()
	}
	if after.result != Validating {
		after.proven = nil
	}
	return s.settle(before, after, o) && complete && after.result == Validating
}

// settle puts the result of a self-test in force, unless the servers have changed meanwhile; then it returns false.
func (s *Stub) settle(before, after state, o StubOptions) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.firstTry != before.firstTry {
		return false
	}
	after.source, after.slow, after.generation = s.state.source, s.state.slow, s.state.generation
	if after.result != s.state.result {
		after.generation.Secure++
		if after.result == Validating && (s.state.weak || s.state.result != Unknown) {
			after.generation.Any++
		}
		after.weak = false
		if after.result == Validating {
			o.Logger.Info("the resolver validates", "servers", serverList(after.servers))
		} else {
			o.Logger.Warn("no answer is taken for secure: the resolver does not pass the self-test", "servers", serverList(after.servers), "result", after.result.String(), "reason", after.reason)
		}
	} else if after.result == Unknown && after.reason != s.state.reason {
		o.Logger.Warn("the self-test of the resolver has no result: lookups fail until it has", "servers", serverList(after.servers), "reason", after.reason)
	}
	s.state = after
	select {
	case <-after.firstTry:
	default:
		close(after.firstTry)
	}
	return true
}

// testServer tests one server; Unknown means that it did not answer.
func (s *Stub) testServer(ctx context.Context, server Server, o StubOptions) (Result, string) {
	const tries = 3
	answered := false
	var signed Result
	reason := ""
	for _, name := range o.SelfTestNames {
		m, err := s.try(ctx, server, newQuery(dns.Fqdn(name), dns.TypeNS, dns.ClassINET), o, 0)
		if err != nil {
			reason = server.String() + ": " + networkReason(err)
			if !timedOut(err) || ctx.Err() != nil {
				break
			}
			continue
		}
		answered = true
		if m.AuthenticatedData && m.Rcode == dns.RcodeSuccess {
			signed = Validating
			break
		}
	}
	if !answered {
		return Unknown, reason
	}
	for range tries {
		m, err := s.try(ctx, server, newQuery("version.bind.", dns.TypeTXT, dns.ClassCHAOS), o, 0)
		switch {
		case err == nil && m.AuthenticatedData:
			return EchoesAD, server.String() + " sets the AD bit even for version.bind: it copies it from the query"
		case err == nil && signed == Validating:
			return Validating, ""
		case err == nil:
			return NotValidating, server.String() + " sets the AD bit for none of the self-test names"
		case ctx.Err() != nil:
			return Unknown, "interrupted"
		}
	}
	return NotValidating, server.String() + " does not answer version.bind CH TXT, so its AD bit cannot be told from an echo"
}
