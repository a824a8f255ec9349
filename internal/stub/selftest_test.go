package stub_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/stub"
)

const version = "version.bind"

func TestSelfTest(t *testing.T) {
	t.Parallel() // it mostly waits
	root := dnstest.Answer{Records: []string{"NS a.root-servers.net."}}
	signed := dnstest.Answer{Secure: true, Records: []string{"NS a.gtld-servers.net."}}
	failing := dnstest.Answer{Rcode: "SERVFAIL"}
	tests := map[string]struct {
		set    func(*dnstest.Server)
		names  []string
		slow   bool // something is not answered
		want   stub.Result
		reason string
	}{
		"validating": {want: stub.Validating},
		"a resolver that copies the AD bit does not validate": {
			set: func(s *dnstest.Server) { s.SetEchoAD(true) }, want: stub.EchoesAD, reason: "copies it from the query",
		},
		"version.bind is answered, without AD": {
			set: func(s *dnstest.Server) {
				s.Set(version, dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "9.18"`}})
			},
			want: stub.Validating,
		},
		"version.bind is answered with AD": {
			set: func(s *dnstest.Server) {
				s.Set(version, dns.TypeTXT, dnstest.Answer{Secure: true, Rcode: "SERVFAIL"})
			},
			want: stub.EchoesAD,
		},
		"version.bind is not answered": {
			set:  func(s *dnstest.Server) { s.Set(version, dns.TypeTXT, dnstest.Answer{Drop: true}) },
			slow: true, want: stub.NotValidating, reason: "does not answer version.bind",
		},
		"not validating": {
			set: func(s *dnstest.Server) { s.SetValidating(false) }, want: stub.NotValidating, reason: "for none of the self-test names",
		},
		"A resolver with a local root copy answers . with AA and no AD, so there is a second name": {
			set: func(s *dnstest.Server) { s.Set("", dns.TypeNS, root) }, want: stub.Validating,
		},
		"a private root needs its own names": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, root)
				s.Set("com", dns.TypeNS, dnstest.Answer{Rcode: "NXDOMAIN"})
				s.Set("corp.test", dns.TypeNS, signed)
			},
			names: []string{".", "corp.test"}, want: stub.Validating,
		},
		"a forwarder that passes AD on but loses it in its cache": {
			set: func(s *dnstest.Server) {
				var asked atomic.Int64
				s.Set("", dns.TypeA, dnstest.Answer{Secure: true, Change: func(m *miekg.Msg) {
					m.AuthenticatedData = asked.Add(1) == 1
				}})
			},
			want: stub.NotValidating, reason: "loses it in its cache",
		},
		"a forwarder whose cache was filled by another program": {
			set:  func(s *dnstest.Server) { s.Set("", dns.TypeA, dnstest.Answer{}) },
			want: stub.NotValidating, reason: "does not set the AD bit for A .",
		},
		"the addresses of the first name cannot be looked up": {
			set:  func(s *dnstest.Server) { s.Set("", dns.TypeA, dnstest.Answer{Rcode: "SERVFAIL"}) },
			want: stub.Validating,
		},
		"no addresses can be looked up: no result": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeA, dnstest.Answer{Rcode: "SERVFAIL"})
				s.Set("com", dns.TypeA, dnstest.Answer{Rcode: "REFUSED"})
			},
			want: stub.Unknown, reason: "REFUSED for A com.",
		},
		"the addresses of the only signed name are refused: no result": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, root)
				s.Set("com", dns.TypeA, dnstest.Answer{Rcode: "REFUSED"})
			},
			want: stub.Unknown, reason: "REFUSED for A com.",
		},
		"a proof that com. does not exist is as good": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, root)
				s.Set("com", dns.TypeNS, dnstest.Answer{Secure: true, Rcode: "NXDOMAIN"})
			},
			want: stub.Validating,
		},
		"AD with SERVFAIL does not count": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, root)
				s.Set("com", dns.TypeNS, dnstest.Answer{Secure: true, Rcode: "SERVFAIL"})
			},
			want: stub.Unknown, reason: "SERVFAIL for NS com.",
		},
		"no uplink: no result": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, failing)
				s.Set("com", dns.TypeNS, failing)
			},
			want: stub.Unknown, reason: "SERVFAIL for NS com.",
		},
		"the second name times out: no result": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, root)
				s.Set("com", dns.TypeNS, dnstest.Answer{Drop: true})
			},
			slow: true, want: stub.Unknown, reason: "timed out",
		},
		"the first name times out": {
			set:  func(s *dnstest.Server) { s.Set("", dns.TypeNS, dnstest.Answer{Drop: true}) },
			slow: true, want: stub.Validating,
		},
		"a refused name says nothing": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, dnstest.Answer{Rcode: "REFUSED"})
				s.Set("com", dns.TypeNS, root)
			},
			want: stub.NotValidating, reason: "for none of the self-test names",
		},
		"a resolver that refuses us": {
			set: func(s *dnstest.Server) {
				s.Set("", dns.TypeNS, dnstest.Answer{Rcode: "REFUSED"})
				s.Set("com", dns.TypeNS, dnstest.Answer{Rcode: "REFUSED"})
			},
			want: stub.Unknown, reason: "REFUSED for NS com.",
		},
		"garbage": {
			set: func(s *dnstest.Server) { s.SetGarbage(true) }, slow: true, want: stub.Unknown, reason: "timed out",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := dnstest.New(t)
			server.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
			if tc.set != nil {
				tc.set(server)
			}
			timeout := longTimeout
			if tc.slow {
				timeout = shortTimeout
			}
			s, err := stub.New(stub.Options{Servers: []string{server.Addr()}, Timeout: timeout, SelfTestNames: tc.names})
			require.NoError(t, err)
			t.Cleanup(s.Close)
			require.Equal(t, tc.want == stub.Validating, s.SelfTest(t.Context()), "need not be repeated soon")
			state := s.State()
			require.Equal(t, tc.want, state.Result, state.Reason)
			require.Contains(t, state.Reason, tc.reason)
			require.Equal(t, tc.want == stub.Unknown, state.Checked.IsZero())
			switch tc.want {
			case stub.Unknown:
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				_, err := s.Lookup(ctx, mx("example.com"), dns.Effort{})
				require.ErrorContains(t, err, "the self-test of the resolver has no result: "+server.Addr())
				require.Zero(t, server.Asked("example.com", dns.TypeMX))
			case stub.Validating:
				require.Equal(t, dns.Secure, answer(t, s, mx("example.com")).Status)
			default:
				require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status)
			}
		})
	}
}

// No error, race or time-out may make answers weaker: what fails says nothing about the server.
func TestSelfTestKeepsTheEarlierResult(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, fail := range map[string]func(*dnstest.Server){
		"dead":       func(s *dnstest.Server) { s.SetDead(true) },
		"closed":     func(s *dnstest.Server) { _ = s.Close() },
		"garbage":    func(s *dnstest.Server) { s.SetGarbage(true) },
		"no CH":      func(s *dnstest.Server) { s.Set(version, dns.TypeTXT, dnstest.Answer{Drop: true}) },
		"no uplink":  func(s *dnstest.Server) { setNS(s, dnstest.Answer{Rcode: "SERVFAIL"}) },
		"no answers": func(s *dnstest.Server) { setNS(s, dnstest.Answer{Drop: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			server, s := on(t, shortTimeout)
			before := s.Epoch()
			fail(server)
			require.False(t, s.SelfTest(t.Context()))
			require.Equal(t, stub.Validating, s.State().Result)
			require.Equal(t, before, s.Epoch())
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		server, s := on(t, longTimeout)
		before := s.Epoch()
		server.SetValidating(false)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, s.SelfTest(ctx))
		require.Equal(t, before, s.Epoch())
	})
}

func setNS(s *dnstest.Server, a dnstest.Answer) {
	s.Set("", dns.TypeNS, a)
	s.Set("com", dns.TypeNS, a)
}

// "Drop every secure entry when servers, trust or the self-test's result change."
func TestEpoch(t *testing.T) {
	t.Parallel() // it mostly waits
	server, s := on(t, longTimeout)
	g := s.Epoch()
	require.True(t, s.SelfTest(t.Context()))
	require.Equal(t, g, s.Epoch(), "the same result")

	server.SetValidating(false)
	require.False(t, s.SelfTest(t.Context()))
	weak := s.Epoch()
	require.NotEqual(t, g.Answers, weak.Answers)

	server.SetValidating(true)
	require.True(t, s.SelfTest(t.Context()))
	again := s.Epoch()
	require.NotEqual(t, weak.Answers, again.Answers, "what was insecure may be secure")

	o := stub.Options{Servers: []string{server.Addr()}, Timeout: longTimeout}
	require.NoError(t, s.Configure(o))
	require.Equal(t, again, s.Epoch(), "the same servers")
	require.Equal(t, stub.Validating, s.State().Result, "until the self-test has another result")

	o.Trust = stub.TrustNever
	require.NoError(t, s.Configure(o))
	never := s.Epoch()
	require.NotEqual(t, again.Answers, never.Answers)
	require.Equal(t, `trust_ad = "never"`, s.State().Reason)

	o.Trust = stub.TrustAlways
	require.NoError(t, s.Configure(o))
	require.Equal(t, stub.Unknown, s.State().Result, "trust begins with a test")
	require.NotEqual(t, never.Answers, s.Epoch().Answers, "until then no previous answer is given")
	require.True(t, s.SelfTest(t.Context()))
	require.NotEqual(t, never.Answers, s.Epoch().Answers)

	other := dnstest.New(t)
	before := s.Epoch()
	o.Servers = append(o.Servers, other.Addr())
	require.NoError(t, s.Configure(o))
	require.NotEqual(t, before.Answers, s.Epoch().Answers)
}

// "Trust is one property of the whole list."
func TestLists(t *testing.T) {
	t.Parallel() // it mostly waits
	data := dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}}
	two := func(t *testing.T, timeout time.Duration) (a, b *dnstest.Server, s *stub.Stub) {
		t.Helper()
		a, b = dnstest.New(t), dnstest.New(t)
		a.SetOther(data)
		b.SetOther(data)
		s, err := stub.New(stub.Options{Servers: []string{a.Addr(), b.Addr()}, Timeout: timeout})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		return a, b, s
	}
	t.Run("a mixed list: nothing is secure", func(t *testing.T) {
		server := dnstest.New(t)
		server.SetOther(data)
		s := newStub(t, stub.Options{Servers: []string{server.Addr(), "192.0.2.1"}, Timeout: longTimeout})
		require.Equal(t, stub.NotTrusted, s.State().Result)
		require.Equal(t, "192.0.2.1:53 is not a resolver on loopback", s.State().Reason)
		require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status)
	})
	t.Run("systemd-resolved", func(t *testing.T) {
		server, err := dnstest.Start("127.0.0.53")
		require.NoError(t, err)
		defer func() { _ = server.Close() }()
		server.SetOther(data)
		s := newStub(t, stub.Options{Servers: []string{server.Addr()}, Timeout: longTimeout})
		require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status)
		s = newStub(t, stub.Options{Servers: []string{server.Addr()}, Timeout: longTimeout, Trust: stub.TrustAlways})
		require.Equal(t, dns.Secure, answer(t, s, mx("example.com")).Status)
	})
	t.Run("one does not validate: nothing is secure", func(t *testing.T) {
		_, b, s := two(t, shortTimeout)
		b.SetValidating(false)
		require.False(t, s.SelfTest(t.Context()))
		testUntil(t, s, stub.NotValidating)
		require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status)
	})
	t.Run("one echoes AD: nothing is secure", func(t *testing.T) {
		a, b, s := two(t, shortTimeout)
		a.SetValidating(false)
		b.SetEchoAD(true)
		require.False(t, s.SelfTest(t.Context()))
		testUntil(t, s, stub.EchoesAD) // the worst counts
		require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status)
	})
	t.Run("one has not been tested: it is not asked", func(t *testing.T) {
		a, b, s := two(t, shortTimeout)
		b.SetDead(true)
		require.False(t, s.SelfTest(t.Context()), "test again soon")
		testUntil(t, s, stub.Validating)
		b.SetDead(false)
		b.SetValidating(false)
		a.SetDead(true)
		require.Contains(t, failure(t, s, mx("example.com")).Reason, a.Addr()+": timed out")
		require.Zero(t, b.Queries())
	})
	t.Run("after SERVFAIL another validating server is asked", func(t *testing.T) {
		a, b, s := two(t, ample)
		a.Set("example.com", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL"})
		require.Eventually(t, func() bool { return s.SelfTest(t.Context()) }, longTimeout, time.Millisecond)
		require.Equal(t, dns.Secure, answer(t, s, mx("example.com")).Status, "one broken server must not defer mail")
		require.Equal(t, 1, b.Asked("example.com", dns.TypeMX))
		b.Set("example.com", dns.TypeMX, dnstest.Answer{Drop: true})
		require.Equal(t, "SERVFAIL", failure(t, s, mx("example.com")).Reason, "and not: timed out")
	})
	t.Run("never from SERVFAIL to a server that validates less", func(t *testing.T) {
		a, b, s := two(t, ample)
		a.Set("bogus.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6})
		b.SetValidating(false)
		s.SelfTest(t.Context())
		require.True(t, failure(t, s, mx("bogus.example")).Bogus)
		require.Zero(t, b.Asked("bogus.example", dns.TypeMX))
	})
	t.Run("never from SERVFAIL of a local server to a far one", func(t *testing.T) {
		a := dnstest.New(t)
		b, err := dnstest.Start("127.0.0.53") // stands for any that is not trusted
		require.NoError(t, err)
		defer func() { _ = b.Close() }()
		b.SetOther(data)
		a.SetOther(dnstest.Answer{Rcode: "SERVFAIL"})
		s := newStub(t, stub.Options{Servers: []string{a.Addr(), b.Addr()}, Timeout: ample})
		require.Equal(t, "SERVFAIL", failure(t, s, mx("bogus.example")).Reason)
		require.Zero(t, b.Queries())
		a.SetOther(dnstest.Answer{Drop: true})
		require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status, "a timeout is not a verdict")
		s = newStub(t, stub.Options{Servers: []string{b.Addr(), a.Addr()}, Timeout: ample})
		b.SetOther(dnstest.Answer{Rcode: "SERVFAIL"})
		a.SetOther(data)
		require.Equal(t, dns.Insecure, answer(t, s, mx("example.com")).Status, "to a better one is fine")
	})
}

func TestLookupWaitsForTheSelfTest(t *testing.T) {
	t.Parallel() // it mostly waits
	server := dnstest.New(t)
	server.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
	server.SetDead(true)
	s, err := stub.New(stub.Options{Servers: []string{server.Addr()}, Timeout: longTimeout})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), shortTimeout)
	defer cancel()
	_, err = s.Lookup(ctx, mx("example.com"), dns.Effort{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "it has not ended yet")

	done := make(chan error, 2)
	for range 2 {
		go func() {
			r, err := s.Lookup(t.Context(), mx("example.com"), dns.Effort{})
			if err == nil && r.Status != dns.Secure {
				err = errors.New("not secure")
			}
			done <- err
		}()
	}
	other := dnstest.New(t)
	other.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
	require.NoError(t, s.Configure(stub.Options{Servers: []string{other.Addr()}, Timeout: longTimeout}), "while they wait")
	require.True(t, s.SelfTest(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.Zero(t, server.Queries())
}

// each calls itself with what is written.
type each func(string)

func (f each) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

// A client that asks after a line about the servers was logged gets an answer by what the line says.
func TestWhatIsLoggedIsInEffect(t *testing.T) {
	t.Parallel()
	server := dnstest.New(t)
	var s *stub.Stub
	var states []string
	log := slog.New(slog.NewTextHandler(each(func(string) {
		if s != nil {
			states = append(states, s.State().SelfTest)
		}
	}), nil))
	s, err := stub.New(stub.Options{Servers: []string{server.Addr()}, Logger: log})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.True(t, s.SelfTest(t.Context()))
	server.SetEchoAD(true)
	require.False(t, s.SelfTest(t.Context()))
	require.NoError(t, s.Configure(stub.Options{Servers: []string{"192.0.2.1"}, Logger: log}))
	require.Equal(t, []string{"validating", "echoes AD", "not trusted", "not trusted"}, states)
}

func TestFollowResolvConf(t *testing.T) {
	t.Parallel() // it mostly waits
	path := filepath.Join(t.TempDir(), "resolv.conf")
	replace := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	servers := func(s *stub.Stub) string { return strings.Join(s.State().Servers, " ") }
	replace("nameserver 127.0.0.1\n")
	s, err := stub.New(stub.Options{ResolvConf: path})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.Equal(t, "127.0.0.1:53", servers(s))
	g := s.Epoch()

	s.FollowResolvConf()
	require.Equal(t, g, s.Epoch())
	replace("nameserver 192.0.2.1\nnameserver 127.0.0.1\n")
	s.FollowResolvConf()
	require.Equal(t, "192.0.2.1:53 127.0.0.1:53", servers(s))
	require.Equal(t, stub.NotTrusted, s.State().Result)
	require.NotEqual(t, g.Answers, s.Epoch().Answers)

	for name, broken := range map[string]func() error{
		"missing":   func() error { return os.Remove(path) },
		"truncated": func() error { return os.WriteFile(path, nil, 0o600) },
		"garbage":   func() error { return os.WriteFile(path, []byte("\x00\xffnameserver?"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			replace("nameserver 192.0.2.9\n")
			s.FollowResolvConf()
			require.NoError(t, broken())
			for range 10 {
				s.FollowResolvConf()
			}
			require.NoError(t, s.Configure(stub.Options{ResolvConf: path}), "a reload at that moment")
			require.Equal(t, "192.0.2.9:53", servers(s), "it may be in the middle of a change")
			_ = os.Remove(path)
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		replace("nameserver 192.0.2.9\n")
		s.FollowResolvConf()
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Mkdir(path, 0o700))
		for range 10 {
			s.FollowResolvConf()
		}
		require.Equal(t, "192.0.2.9:53", servers(s))
	})
	t.Run("servers in the settings: the file does not matter", func(t *testing.T) {
		require.NoError(t, s.Configure(stub.Options{Servers: []string{"127.0.0.9"}, ResolvConf: path}))
		require.NoError(t, os.Remove(path))
		replace("nameserver 192.0.2.1\n")
		s.FollowResolvConf()
		require.Equal(t, "127.0.0.9:53", servers(s))
		require.Equal(t, "settings", s.State().Source)
	})
}
