package stub

import (
	"context"
	"slices"
	"sync"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
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

// State is what a Stub knows about its servers. It is for display only.
type State struct {
	Servers []string
	// Source is "settings" or the path of the resolv.conf.
	Source  string
	Trusted bool
	Result  Result
	// Reason is the reason why the result is not Validating.
	Reason string
	// Checked is when the self-test last had a result.
	Checked time.Time
	// Silent are the servers that did not answer when they were last asked.
	Silent []string
	// FailingSince is when the present outage began, or zero.
	FailingSince time.Time
	// FailingReason is what failed last, and at which server.
	FailingReason string
}

// State returns the present state of the servers.
func (s *Stub) State() State {
	now := s.now.Load()
	st := State{Source: now.source, Trusted: now.trusted, Result: now.result, Reason: now.reason, Checked: now.checked}
	st.Servers, st.Silent = texts(now.servers), texts(now.health.silent(now.servers))
	st.FailingSince, st.FailingReason = now.health.state()
	return st
}

// outcome is the result of the self-test of one server. The zero value means that there is no result.
type outcome struct {
	result Result
	reason string
}

// SelfTest tests every server now. A server that sets AD in an answer that cannot be validated copies the bit
// (EchoesAD); a server that sets it for a signed name validates. SelfTest reports whether all have passed; otherwise
// the test should be repeated soon. A test that no server answers does not change the earlier result.
func (s *Stub) SelfTest(ctx context.Context) bool {
	return s.turn(ctx) && s.selfTest(ctx)
}

// turn waits until no other self-test runs. selfTest ends the turn.
func (s *Stub) turn(ctx context.Context) bool {
	select {
	case s.testing <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Validates reports whether the servers pass the self-test now. A result of the last ten seconds counts, and so does an
// earlier one if this test has none. With e.CacheOnly the error is dns.ErrNotCached if a test is due.
func (s *Stub) Validates(ctx context.Context, e dns.Effort) (bool, error) {
	const recent = 10 * time.Second
	due := func() bool {
		now := s.now.Load()
		return now.trusted && time.Since(now.checked) >= recent
	}
	switch {
	case !due():
	case e.CacheOnly:
		return false, dns.ErrNotCached
	case s.turn(ctx):
		if !due() { // another lookup has tested them since
			<-s.testing
		} else if !s.selfTest(ctx) {
			s.testAgain() // with the back-off of Run
		}
	}
	return s.now.Load().result == Validating, nil
}

// selfTest reports false too if the test was interrupted, or another state has been put in force since it began.
func (s *Stub) selfTest(ctx context.Context) bool {
	defer func() { <-s.testing }()
	before := s.now.Load()
	if !before.trusted {
		return true
	}
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make([]outcome, len(before.servers))
	var servers, watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-before.replaced: // the result is of no use any more
			cancel()
		case <-ctx.Done():
		}
	})
	for i, server := range before.servers {
		servers.Go(func() { outcomes[i] = s.testServer(ctx, before, server) })
	}
	servers.Wait()
	interrupted := ctx.Err() != nil
	cancel()
	watch.Wait()
	if interrupted {
		return false
	}
	after, complete := before.judge(outcomes)
	return s.settle(before, after) && complete && after.result == Validating
}

// judge returns the state after a self-test, and whether every server had a result.
func (st *state) judge(outcomes []outcome) (after state, complete bool) {
	after = *st
	after.outcome, after.passed = outcome{}, nil
	complete = true
	for i, out := range outcomes {
		server := st.servers[i]
		complete = complete && out.result != Unknown
		if out.result == Validating || out.result == Unknown && slices.Contains(st.passed, server) {
			after.passed = append(after.passed, server)
		}
		// The worst result counts for the list. A server that did not answer has none.
		if after.result == Unknown || out.result != Unknown && out.result < after.result {
			after.outcome = out
		}
	}
	switch {
	case after.result != Unknown:
		after.checked = time.Now()
	case st.result != Unknown:
		after.outcome = st.outcome
	}
	return after, complete
}

// settle applies the result of a self-test and returns true, unless another state has been put in force since it began.
func (s *Stub) settle(before *state, after state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Load() != before {
		return false
	}
	log, servers := after.options.Logger, serverList(after.servers)
	if after.result != before.result {
		after.answers++
		if after.result == Validating {
			log.Info("resolver passed its self-test", "servers", servers)
		} else {
			log.Warn("resolver failed its self-test; treating all answers as insecure",
				"servers", servers, "result", after.result.String(), "reason", after.reason)
		}
	} else if after.result == Unknown && after.reason != before.reason {
		log.Warn("the self-test of the resolver has no result; lookups fail until it has one",
			"servers", servers, "reason", after.reason)
	}
	s.replace(after)
	return true
}

// testServer tests one server. A failure or a timeout says nothing about it: the outcome is Unknown, and an earlier one
// stays in force, so that neither load nor a lost uplink makes the answers of a good resolver insecure.
func (s *Stub) testServer(ctx context.Context, st *state, server Server) outcome {
	began := time.Now()
	signed := s.testSigned(ctx, st, server)
	if signed.result == Unknown {
		return signed
	}
	// Some servers drop the question for version.bind, and a start must not wait long for them. A slow server gets
	// longer.
	const tries, slower = 3, 2
	version := miekg.Question{Name: "version.bind.", Qtype: miekg.TypeTXT, Qclass: miekg.ClassCHAOS}
	timeout := min(max(st.options.Timeout/tries, slower*time.Since(began)), st.options.Timeout)
	for range tries {
		m, err := s.send(ctx, st, server, timeout, version)
		switch {
		case err == nil && m.AuthenticatedData:
			return outcome{EchoesAD,
				server.String() + " sets the AD bit even for version.bind: it copies it from the query"}
		case err == nil:
			return signed
		case ctx.Err() != nil:
			return outcome{Unknown, "interrupted"}
		}
	}
	out := outcome{NotValidating, server.String() +
		" does not answer version.bind CH TXT, so its AD bit may be a copy of the query's"}
	if slices.Contains(st.passed, server) {
		out.result = Unknown
	}
	return out
}

// testSigned asks for the NS RRset of the names that are signed: one AD bit suffices. That name is then tested with a
// type that caches keep.
func (s *Stub) testSigned(ctx context.Context, st *state, server Server) outcome {
	answered, unsure, reason := false, false, ""
	for _, name := range st.options.SelfTestNames {
		fqdn, _ := dns.OnWire(name)
		m, err := s.send(ctx, st, server, st.options.Timeout, inet(fqdn, dns.TypeNS))
		switch {
		case err != nil:
			unsure, reason = true, server.String()+": "+networkReason(err)
			if !timedOut(err) || ctx.Err() != nil {
				return outcome{Unknown, reason}
			}
		case useful(m):
			if m.AuthenticatedData { // the proof that com. does not exist under a private root is as good
				out := s.testCached(ctx, st, server, fqdn)
				if out.result != Unknown || ctx.Err() != nil {
					return out
				}
				unsure, reason = true, out.reason
			}
			answered = true
		default:
			unsure = unsure || m.Rcode == miekg.RcodeServerFailure
			reason = failureText(server, m) + " for NS " + fqdn
		}
	}
	if unsure || !answered {
		return outcome{Unknown, reason}
	}
	return outcome{NotValidating, server.String() + " sets the AD bit for none of the self-test names"}
}

// failureText names the RCODE that a server returned.
func failureText(server Server, m *miekg.Msg) string {
	reason, _, _ := extended(m)
	return server.String() + ": " + rcodeText(m.Rcode) + reason
}

// testCached asks twice for the addresses of a signed name, or their denial: some forwarders pass the AD bit on, but
// lose it when they answer from their own cache, which keeps no NS RRsets.
func (s *Stub) testCached(ctx context.Context, st *state, server Server, fqdn string) outcome {
	for range 2 {
		m, err := s.send(ctx, st, server, st.options.Timeout, inet(fqdn, dns.TypeA))
		switch {
		case err != nil:
			return outcome{Unknown, server.String() + ": " + networkReason(err)}
		case !useful(m):
			return outcome{Unknown, failureText(server, m) + " for A " + fqdn}
		case !m.AuthenticatedData:
			return outcome{NotValidating, server.String() + " does not set the AD bit for A " + fqdn +
				": it loses it in its cache, or does not validate"}
		}
	}
	return outcome{result: Validating}
}
