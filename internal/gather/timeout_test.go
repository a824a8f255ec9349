package gather_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
)

// storeOf imitates the store of MTA-STS policies: it asks for the record, takes a given time to fetch the policy, and
// returns a live one if neither works.
type storeOf struct {
	resolver dns.Resolver
	live     *mtasts.Result
	policy   mtasts.Result
	fetch    time.Duration
}

func (s storeOf) Lookup(ctx context.Context, domain string, e dns.Effort) mtasts.Result {
	fail := func(err error) mtasts.Result {
		if s.live != nil {
			return *s.live
		}
		if ctx.Err() == nil {
			return mtasts.Result{Domain: domain, State: mtasts.Failed, Err: err}
		}
		return mtasts.Result{Domain: domain, Err: ctx.Err()}
	}
	record, err := s.resolver.Lookup(ctx, mtasts.RecordQuestion(domain), e)
	switch {
	case err != nil:
		return fail(err)
	case len(record.TXT()) == 0:
		return mtasts.Result{Domain: domain, State: mtasts.Absent}
	}
	if s.fetch == 0 { // timers that have expired already crash the race detector in a synctest bubble
		return s.policy
	}
	select {
	case <-time.After(s.fetch):
		return s.policy
	case <-ctx.Done():
		return fail(ctx.Err())
	}
}

// TestOneSilentQuestion leaves each question but that for the MX RRset unanswered in turn. The answer is there within four
// seconds, and the same as without that fact.
func TestOneSilentQuestion(t *testing.T) {
	t.Parallel()
	const (
		mx, s  = "mx.example.com", "starttls-a.example.com"
		silent = "TXT _mta-sts.example.com"
		none   = "NOTFOUND "
	)
	type zone = map[string]answer
	record := answer{rrset: dns.RRset{Status: unsigned, Records: []string{"v=STSv1; id=1"}}}
	enforced := stsPolicy(mtasts.Enforce, mx)
	only := func(names ...string) string {
		return "OK secure match=" + strings.Join(names, ":") + " servername=hostname"
	}
	for _, c := range []struct {
		name    string
		next    policy.Nexthop
		answers zone
		live    *mtasts.Result
		full    string
		without map[string]string // the question and the answer without it; for all others full
	}{
		{"unsigned", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: mx}), silent: denial(unsigned), "A " + mx: insecureAddrs(), "AAAA " + mx: insecureAddrs()},
			nil, none, nil},
		{"unsigned, IPv4 only", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: mx}), silent: denial(unsigned), "A " + mx: insecureAddrs(), "AAAA " + mx: denial(unsigned)},
			nil, none, map[string]string{"A " + mx: "TEMP"}},
		{"unsigned with a prefix", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: s}), silent: denial(unsigned)}, nil, only(s), nil},
		{"unsigned mixed set", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Preference: 1, Host: mx}, dns.MX{Preference: 2, Host: s}), silent: denial(unsigned), "A " + mx: insecureAddrs(), "AAAA " + mx: insecureAddrs()},
			nil, only(s), nil},
		{"unsigned with an enforced policy", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: mx}), silent: record, "A " + mx: insecureAddrs(), "AAAA " + mx: insecureAddrs()},
			nil, only(mx), map[string]string{silent: none}},
		{"unsigned with a live policy", domain, zone{"MX example.com": mxs(unsigned, dns.MX{Host: mx}), silent: record, "A " + mx: insecureAddrs(), "AAAA " + mx: insecureAddrs()},
			&enforced, only(mx), nil},
		{"signed", domain, zone{"MX example.com": mxs(signed, dns.MX{Host: mx}), silent: denial(signed), "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: addrs("2001:db8::1"), "TLSA _25._tcp." + mx: denial(signed)},
			nil, none, map[string]string{"TLSA _25._tcp." + mx: "TEMP"}},
		{"signed with TLSA", domain, zone{"MX example.com": mxs(signed, dns.MX{Host: mx}), silent: denial(signed), "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: addrs("2001:db8::1"), "TLSA _25._tcp." + mx: tlsa(signed)},
			nil, "OK dane-only", map[string]string{"TLSA _25._tcp." + mx: "TEMP"}},
		{"signed, two hosts, TLSA at both", domain, zone{"MX example.com": mxs(signed, dns.MX{Host: mx}, dns.MX{Host: s}), silent: denial(signed),
			"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: addrs("2001:db8::1"), "TLSA _25._tcp." + mx: tlsa(signed),
			"A " + s: addrs("192.0.2.1"), "AAAA " + s: addrs("2001:db8::1"), "TLSA _25._tcp." + s: tlsa(signed)},
			nil, "OK dane-only", nil},
		{"signed, two hosts, TLSA at one", domain, zone{"MX example.com": mxs(signed, dns.MX{Host: mx}, dns.MX{Host: "b.example.com"}), silent: denial(signed),
			"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: addrs("2001:db8::1"), "TLSA _25._tcp." + mx: tlsa(signed),
			"A b.example.com": addrs("192.0.2.1"), "AAAA b.example.com": addrs("2001:db8::1"), "TLSA _25._tcp.b.example.com": denial(signed)},
			nil, "OK dane", map[string]string{"TLSA _25._tcp.b.example.com": "OK dane-only"}},
		{"signed mixed set", domain, zone{"MX example.com": mxs(signed, dns.MX{Preference: 1, Host: mx}, dns.MX{Preference: 2, Host: s}), silent: denial(signed),
			"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: denial(signed),
			"A " + s: addrs("192.0.2.1"), "AAAA " + s: addrs("2001:db8::1"), "TLSA _25._tcp." + s: denial(signed)},
			nil, only(s), map[string]string{"TLSA _25._tcp." + s: "TEMP"}},
		{"signed, TLSA at the second host too", domain, zone{"MX example.com": mxs(signed, dns.MX{Preference: 1, Host: mx}, dns.MX{Preference: 2, Host: s}), silent: denial(signed),
			"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: tlsa(signed),
			"A " + s: addrs("192.0.2.1"), "AAAA " + s: addrs("2001:db8::1"), "TLSA _25._tcp." + s: tlsa(signed)},
			nil, "OK dane-only", nil},
		{"[host] with TLSA", policy.Nexthop{Name: mx, Host: true, Port: 25}, zone{"A " + mx: addrs("192.0.2.1"), "AAAA " + mx: addrs("2001:db8::1"), "TLSA _25._tcp." + mx: tlsa(signed)},
			nil, "OK dane-only", map[string]string{"TLSA _25._tcp." + mx: "TEMP"}},
	} {
		for question := range c.answers {
			if strings.HasPrefix(question, "MX ") {
				continue
			}
			for _, mxTook := range []time.Duration{0, 200 * time.Millisecond, 2 * time.Second, 4 * time.Second} {
				t.Run(fmt.Sprint(c.name, "/", question, "/", mxTook), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						d := delayed{&table{t: t, answers: c.answers, silent: []string{question}}, dns.TypeMX, mxTook}
						e := gather.Engine{Resolver: starting{d}, Site: site{}, STS: storeOf{resolver: d, live: c.live, policy: enforced}, Hosts: gather.NewHosts()}
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						defer cancel()
						start := time.Now()
						_, got, err := decide(ctx, &e, policy.Decide, c.next, withDANEAndSTS(), dns.Effort{})
						require.NoError(t, err)
						want := c.without[question]
						if want == "" {
							want = c.full
						}
						r := got.Reply(withDANEAndSTS(), false)
						require.True(t, strings.HasPrefix(r.String(), want), "%s, want %s", r, want)
						if mxTook < 2*time.Second {
							require.Less(t, time.Since(start), 4*time.Second)
						} else {
							require.LessOrEqual(t, time.Since(start), 10*time.Second)
						}
					})
				})
			}
		}
	}
}

// delayed answers questions of a type later.
type delayed struct {
	dns.Resolver
	about dns.Type
	by    time.Duration
}

func (d delayed) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	if q.Type == d.about {
		select {
		case <-time.After(d.by):
		case <-ctx.Done():
			return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
		}
	}
	return d.Resolver.Lookup(ctx, q, e)
}

// TestASilentMXQuestion: the MX question gets the larger part of the budget, because nothing can be known without it.
func TestASilentMXQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := gather.Engine{Resolver: starting{&table{t: t, silent: []string{"MX example.com"}}}, Site: site{}, STS: noPolicy(t)}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		_, d, err := decide(ctx, &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, policy.Defer, d.Verdict)
		require.Equal(t, 6*time.Second, time.Since(start))
	})
}

// TestADeadPolicyHost takes no more time than a silent question: the domain counts as one without a policy until the
// policy has been fetched (RFC 8461 section 3.3). A prefix hardly waits for it.
func TestADeadPolicyHost(t *testing.T) {
	t.Parallel()
	const mx, s = "mx.example.com", "starttls-a.example.com"
	for host, c := range map[string]struct {
		want string
		most time.Duration
	}{
		mx: {"NOTFOUND ", 4 * time.Second},
		s:  {"OK secure match=" + s + " servername=hostname", 1300 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &table{t: t, answers: map[string]answer{
				"MX example.com": mxs(unsigned, dns.MX{Host: host}), "A " + mx: insecureAddrs(), "AAAA " + mx: denial(unsigned),
				"TXT _mta-sts.example.com": {rrset: dns.RRset{Status: unsigned, Records: []string{"v=STSv1; id=1"}}},
			}}
			e := gather.Engine{Resolver: starting{d}, Site: site{}, STS: storeOf{resolver: d, fetch: time.Hour}}
			start := time.Now()
			require.Equal(t, c.want, reply(t, &e, domain, withDANEAndSTS()))
			require.Less(t, time.Since(start), c.most)
		})
	}
}

// TestSilentBackupHostAndRecord: the name servers of a backup host and the record are silent, and the MX RRset took
// some time. No fact stays unknown for lack of time.
func TestSilentBackupHostAndRecord(t *testing.T) {
	t.Parallel()
	for _, mxTook := range []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, time.Second, 3 * time.Second, 4 * time.Second} {
		for _, held := range []*mtasts.Result{nil, {Domain: "example.com", State: mtasts.Found, Policy: mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"a.example"}}}} {
			synctest.Test(t, func(t *testing.T) {
				table := &table{t: t, answers: map[string]answer{
					"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: "a.example"}, dns.MX{Preference: 20, Host: "b.example"}),
					"A a.example":    addrs("192.0.2.1"), "AAAA a.example": denial(signed), "TLSA _25._tcp.a.example": denial(signed),
				}, silent: []string{"A b.example", "AAAA b.example", "TXT _mta-sts.example.com"}}
				d := delayed{table, dns.TypeMX, mxTook}
				e := gather.Engine{Resolver: starting{d}, Site: site{}, STS: storeOf{resolver: d, live: held}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, got, err := decide(ctx, &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
				require.NoError(t, err)
				r := got.Reply(withDANEAndSTS(), false)
				if held == nil {
					require.Equal(t, "OK dane", r.String(), "%v: no policy (RFC 8461 section 3.3), and DANE for the host whose lookups failed", mxTook)
				} else {
					require.Equal(t, "OK secure match=a.example servername=hostname", r.String(), "%v", mxTook)
				}
			})
		}
	}
}

// TestASilentHostHidesNoPolicy: the record was answered immediately, while the lookups about a backup host took all of
// their time. The policy is still fetched.
func TestASilentHostHidesNoPolicy(t *testing.T) {
	t.Parallel()
	record := answer{rrset: dns.RRset{Status: signed, Records: []string{"v=STSv1; id=1"}}}
	synctest.Test(t, func(t *testing.T) {
		d := shared(&table{t: t, answers: map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: "a.example"}, dns.MX{Preference: 20, Host: "b.example"}),
			"A a.example":    addrs("192.0.2.1"), "AAAA a.example": denial(signed), "TLSA _25._tcp.a.example": denial(signed),
			"TXT _mta-sts.example.com": record,
		}, silent: []string{"A b.example", "AAAA b.example"}})
		e := gather.Engine{Resolver: starting{d}, Site: site{}, STS: storeOf{resolver: d, policy: stsPolicy(mtasts.Enforce, "a.example"), fetch: time.Second}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, got, err := decide(ctx, &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, "OK secure match=a.example servername=hostname", got.Reply(withDANEAndSTS(), false).String())
		time.Sleep(time.Minute) // the questions without a caller end
		synctest.Wait()
	})
}

// TestASlowResolverHidesNoPolicy: where the resolver takes as long for every answer, an announced policy is not treated
// as missing because there was no time left to fetch it.
func TestASlowResolverHidesNoPolicy(t *testing.T) {
	t.Parallel()
	for _, status := range []dns.Status{signed, unsigned} {
		for each := 100 * time.Millisecond; each < 7*time.Second; each += 100 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				const mx = "mx.example.com"
				var slow dns.Resolver = &table{t: t, answers: map[string]answer{
					"MX example.com": mxs(status, dns.MX{Host: mx}), "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: denial(signed), "TLSA _25._tcp." + mx: denial(signed),
					"TXT _mta-sts.example.com": {rrset: dns.RRset{Status: status, Records: []string{"v=STSv1; id=1"}}},
				}}
				for _, q := range []dns.Type{dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypeTLSA, dns.TypeTXT} {
					slow = delayed{slow, q, each}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				cache := shared(slow)
				e := gather.Engine{Resolver: starting{cache}, Site: site{}, STS: storeOf{resolver: cache, policy: stsPolicy(mtasts.Enforce, mx), fetch: each}}
				_, d, err := decide(ctx, &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
				require.NoError(t, err)
				require.NotEqual(t, policy.None, d.Verdict, "%v each: %q", each, d.Why)
				time.Sleep(time.Minute) // the questions without a caller end
				synctest.Wait()
			})
		}
	}
}

// shared is a resolver with a cache: concurrent callers share a question, which continues when they give up.
func shared(r dns.Resolver) dns.Resolver {
	return &sharing{Resolver: r, calls: map[dns.Question]*sharedCall{}}
}

type sharing struct {
	dns.Resolver
	mu    sync.Mutex
	calls map[dns.Question]*sharedCall
}

type sharedCall struct {
	done  chan struct{}
	rrset *dns.RRset
	err   error
}

func (s *sharing) Lookup(ctx context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	s.mu.Lock()
	call := s.calls[q]
	if call == nil {
		call = &sharedCall{done: make(chan struct{})}
		s.calls[q] = call
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
			defer cancel()
			call.rrset, call.err = s.Resolver.Lookup(ctx, q, dns.Effort{Untrusted: e.Untrusted})
			close(call.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-call.done:
		return call.rrset, call.err
	default:
	}
	if e.CacheOnly {
		return nil, dns.ErrNotCached
	}
	select {
	case <-call.done:
		return call.rrset, call.err
	case <-ctx.Done():
		return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
	}
}

// TestNothingBeginsAfterTheDeadline.
func TestNothingBeginsAfterTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Int64
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var many []dns.MX
		for i := range uint16(32) {
			many = append(many, dns.MX{Preference: i, Host: fmt.Sprintf("mx%d.example.net", i)})
		}
		silent := resolverFunc(func(within context.Context, q dns.Question) (*dns.RRset, error) {
			if ctx.Err() != nil || within.Err() != nil {
				late.Add(1)
			}
			if q.Type == dns.TypeMX {
				r := mxs(unsigned, many...)
				return &r.rrset, nil
			}
			<-within.Done()
			return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: within.Err()}
		})
		e := gather.Engine{Resolver: starting{silent}, Site: site{}, STS: storeOf{resolver: denies{}}, Hosts: gather.NewHosts()}
		_, d, err := decide(ctx, &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, policy.Defer, d.Verdict)
		synctest.Wait()
		require.Zero(t, late.Load())
	})
}

// denies is a resolver that denies everything.
type denies struct{}

func (denies) Lookup(context.Context, dns.Question, dns.Effort) (*dns.RRset, error) {
	return &dns.RRset{Status: unsigned}, nil
}

// TestManySilentHosts: many next hops with a good host and 31 silent ones are looked up at the same time, and remote
// senders name more of them. The questions in progress stay far below what the resolver allows, so that another domain
// is answered immediately, and each of the next hops within its budget.
func TestManySilentHosts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var now [2][]context.Context // of the questions in progress for deliveries and for remote senders
		var most [2]int
		flood := effortFunc(func(ctx context.Context, q dns.Question, by dns.Effort) (*dns.RRset, error) {
			class := 0
			if by.Untrusted {
				class = 1
			}
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			mu.Lock()
			ended := func(ctx context.Context) bool { return ctx.Err() != nil }
			now[class] = append(slices.DeleteFunc(now[class], ended), ctx)
			most[class] = max(most[class], len(now[class]))
			mu.Unlock()
			name := q.Name[strings.LastIndex(q.Name, "d"):]
			switch {
			case q.Type == dns.TypeMX:
				r := mxs(unsigned, dns.MX{Preference: 0, Host: "smtps-good." + name})
				for i := range uint16(31) {
					r.rrset.Records = append(r.rrset.MX(), dns.MX{Preference: i + 1, Host: fmt.Sprintf("smtps-silent%d.%s", i, name)})
				}
				if strings.HasPrefix(q.Name, "plain") {
					for i := range r.rrset.MX() {
						r.rrset.MX()[i].Host = strings.TrimPrefix(r.rrset.MX()[i].Host, "smtps-")
					}
				}
				return &r.rrset, nil
			case strings.Contains(q.Name, "silent"):
				<-ctx.Done()
				return nil, &dns.Error{Question: q, Reason: "no answer in time", Err: ctx.Err()}
			}
			a := insecureAddrs()
			a.rrset.Name, a.rrset.Owner = q.Name, q.Name
			if q.Type != dns.TypeA {
				a.rrset.Records = nil
			}
			return &a.rrset, nil
		})
		hosts := gather.NewHosts()
		e := gather.Engine{Resolver: starting{flood}, STS: noPolicy(t), Site: site{}, Hosts: hosts}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				start := time.Now()
				_, d, _ := decide(ctx, &e, policy.Decide, policy.Nexthop{Name: fmt.Sprintf("plain-d%d", i), Port: 25}, withDANEAndSTS(), dns.Effort{})
				if d.Verdict != policy.Apply || time.Since(start) > 4*time.Second {
					t.Errorf("%v after %v: %q", d.Verdict, time.Since(start), d.Why)
				}
			})
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				_, d, _ := decide(ctx, &e, policy.Route, policy.Nexthop{Name: fmt.Sprintf("d%d", i), Port: 25}, withDANEAndSTS(), dns.Effort{Untrusted: true})
				if d.Verdict != policy.None {
					t.Errorf("a route: %q", d.Why)
				}
			})
		}
		time.Sleep(time.Second)
		start := time.Now()
		_, d, err := decide(t.Context(), &e, policy.Decide, policy.Nexthop{Name: "good-d", Port: 25}, defaults(), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, policy.Apply, d.Verdict)
		require.Zero(t, time.Since(start), "a domain without silent hosts")
		all.Wait()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.LessOrEqual(t, most[0], 100*2*2*policy.FirstHosts+128, "prefetched and asked, for both families")
		require.LessOrEqual(t, most[1], 128+100, "the places for hosts, and the MX question of each")
	})
}

type effortFunc func(context.Context, dns.Question, dns.Effort) (*dns.RRset, error)

func (f effortFunc) Lookup(ctx context.Context, q dns.Question, by dns.Effort) (*dns.RRset, error) {
	return f(ctx, q, by)
}

type resolverFunc func(context.Context, dns.Question) (*dns.RRset, error)

func (f resolverFunc) Lookup(ctx context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	return f(ctx, q)
}

// TestASlowResolverIsGivenItsTime: if the MX question took longer than a question normally may, so may the others.
func TestASlowResolverIsGivenItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mx, each = "starttls-mx.example.com", 4 * time.Second
		var slow dns.Resolver = &table{t: t, answers: map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Host: mx}), "A " + mx: addrs("192.0.2.1"), "AAAA " + mx: addrs(),
			"TLSA _25._tcp." + mx: denial(signed), "TXT _mta-sts.example.com": denial(signed),
		}}
		for _, q := range []dns.Type{dns.TypeMX, dns.TypeA, dns.TypeAAAA} {
			slow = delayed{slow, q, each}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cache := shared(slow)
		e := gather.Engine{Resolver: starting{cache}, Site: site{}, STS: storeOf{resolver: cache}}
		_, d, err := decide(ctx, &e, policy.Decide, domain, withDANEAndSTS(), dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, policy.Apply, d.Verdict, d.Why)
		time.Sleep(each) // for AAAA, which the decision did not wait for
	})
}
