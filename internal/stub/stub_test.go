package stub_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/stub"
)

// longTimeout is a timeout that answers on loopback never reach, and for which no test waits.
const longTimeout = 20 * time.Second

// shortTimeout is a timeout for tests that wait for it, and ample one for tests that also need an answer in time: a busy
// machine may stand still for half a second.
const (
	shortTimeout = 400 * time.Millisecond
	ample        = time.Second
)

// newStub returns a Stub on servers that has tested them.
func newStub(t *testing.T, o stub.Options) *stub.Stub {
	t.Helper()
	s, err := stub.New(o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	s.SelfTest(t.Context())
	return s
}

// on returns a server and a Stub that trusts it.
func on(t *testing.T, timeout time.Duration) (*dnstest.Server, *stub.Stub) {
	t.Helper()
	server := dnstest.New(t)
	s := newStub(t, stub.Options{Servers: []string{server.Addr()}, Timeout: timeout})
	testUntil(t, s, stub.Validating)
	return server, s
}

// testUntil repeats the self-test, as Run does, until it has that result: a short one can run out on a busy machine.
func testUntil(t *testing.T, s *stub.Stub, want stub.Result) {
	t.Helper()
	for range 20 {
		if s.State().Result == want {
			return
		}
		s.SelfTest(t.Context())
	}
	require.Equal(t, want, s.State().Result, s.State().Reason)
}

func mx(name string) dns.Question { return dns.Question{Name: name, Type: dns.TypeMX} }

// failure returns the error of a lookup that must fail.
func failure(t *testing.T, s dns.Resolver, q dns.Question) *dns.Error {
	t.Helper()
	rrset, err := s.Lookup(t.Context(), q, dns.Effort{})
	require.Nil(t, rrset)
	var failed *dns.Error
	require.ErrorAs(t, err, &failed)
	for _, b := range []byte(failed.Reason) {
		require.True(t, b >= ' ' && b <= '~', "a reason is printable ASCII: %q", failed.Reason)
	}
	return failed
}

// unanswered are the reasons for a query to a closed UDP port. The kernel limits the ICMP errors of a whole machine, so that
// a closed port can look like a silent server.
func unanswered(server string) []string {
	return []string{server + ": connection refused", server + ": timed out"}
}

func answer(t *testing.T, s dns.Resolver, q dns.Question) *dns.RRset {
	t.Helper()
	rrset, err := s.Lookup(t.Context(), q, dns.Effort{})
	require.NoError(t, err)
	return rrset
}

// udp serves DNS over UDP with a function, and returns the address.
func udp(t *testing.T, serve func(miekg.ResponseWriter, *miekg.Msg)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	started := make(chan struct{})
	server := &miekg.Server{PacketConn: conn, Handler: miekg.HandlerFunc(serve), NotifyStartedFunc: func() { close(started) }}
	go func() { _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

// The query is the one that Postfix sends.
func TestStubQuery(t *testing.T) {
	t.Parallel() // it mostly waits
	queries := make(chan *miekg.Msg, 10)
	addr := udp(t, func(w miekg.ResponseWriter, m *miekg.Msg) {
		queries <- m.Copy()
		_ = w.WriteMsg(new(miekg.Msg).SetReply(m))
	})
	s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever})
	ids := map[uint16]bool{}
	for _, name := range []string{"example.com", "EXAMPLE.com", "Example.com.", "example.COM", "example.com."} {
		answer(t, s, mx(name))
		q := <-queries
		ids[q.Id] = true
		require.True(t, q.RecursionDesired)
		require.True(t, q.AuthenticatedData)
		require.False(t, q.CheckingDisabled, "CD=1 would give bogus data")
		require.Equal(t, uint16(1232), q.IsEdns0().UDPSize())
		require.True(t, q.IsEdns0().Do(), "as Postfix asks")
		require.Equal(t, []miekg.Question{{Name: "example.com.", Qtype: miekg.TypeMX, Qclass: miekg.ClassINET}}, q.Question)
	}
	require.Greater(t, len(ids), 1)
}

func TestStubAnswer(t *testing.T) {
	t.Parallel() // it mostly waits
	server, s := on(t, longTimeout)
	server.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 MX.example.com.", "MX 5 b.example.com.", "MX 5 a.example.com.", "MX 5 a.example.com."}})
	r := answer(t, s, mx("EXAMPLE.com."))
	require.Equal(t, "example.com", r.Name)
	require.Equal(t, "example.com", r.Owner)
	require.Equal(t, dns.Secure, r.Status)
	require.Equal(t, []dns.MX{{Preference: 5, Host: "a.example.com"}, {Preference: 5, Host: "b.example.com"}, {Preference: 10, Host: "mx.example.com"}}, r.MX(), "by preference and name, each once, in lower case")
	require.WithinDuration(t, time.Now().Add(300*time.Second), r.Expires, time.Minute)
}

// "the ID and QR, opcode, name, class, type (RFC 5452 9.1) … keep reading until the deadline."
func TestStubPassesOverStrays(t *testing.T) {
	t.Parallel() // it mostly waits
	t.Run("the answer comes after them", func(t *testing.T) {
		server, s := on(t, longTimeout)
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Strays: true, Secure: true, Records: []string{"MX 10 mx.example.com."}})
		r := answer(t, s, mx("example.com"))
		require.False(t, r.NXDomain, "the strays say NXDOMAIN")
		require.Equal(t, []dns.MX{{Preference: 10, Host: "mx.example.com"}}, r.MX())
		require.Equal(t, 1, server.Asked("example.com", dns.TypeMX))
	})
	t.Run("the answer does not come", func(t *testing.T) {
		server, s := on(t, ample)
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Strays: true, Drop: true})
		require.Contains(t, failure(t, s, mx("example.com")).Reason, "timed out, only messages that do not answer the query came")
		require.Equal(t, 2, server.Asked("example.com", dns.TypeMX), "a second try")
	})
	t.Run("an answer to another question, over TCP too", func(t *testing.T) {
		server, s := on(t, ample)
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 evil.example."}, Change: func(m *miekg.Msg) { m.Question[0].Name = "other.example." }})
		require.Contains(t, failure(t, s, mx("example.com")).Reason, "timed out")
		server.Set("tcp.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 evil.example."}, Change: func(m *miekg.Msg) {
			if !m.Truncated {
				m.Question[0].Name = "other.example."
			}
		}, Truncate: true})
		require.Contains(t, failure(t, s, mx("tcp.example")).Reason, "timed out, only messages that do not answer the query came")
	})
	t.Run("garbage", func(t *testing.T) {
		server, s := on(t, shortTimeout)
		server.SetGarbage(true)
		require.Contains(t, failure(t, s, mx("example.com")).Reason, "timed out")
	})
}

func TestStubTruncated(t *testing.T) {
	t.Parallel() // it mostly waits
	t.Run("TC=1: TCP (RFC 7766)", func(t *testing.T) {
		server, s := on(t, longTimeout)
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Truncate: true, Secure: true, Records: []string{"MX 10 mx.example.com."}})
		require.Len(t, answer(t, s, mx("example.com")).MX(), 1)
		require.Equal(t, 2, server.Asked("example.com", dns.TypeMX))
	})
	t.Run("a truncated answer can carry AD: never use it; no TCP: failure", func(t *testing.T) {
		server, s := on(t, longTimeout)
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Truncate: true, Secure: true, Records: []string{"MX 10 mx.example.com."}})
		require.NoError(t, server.StopTCP())
		require.Contains(t, failure(t, s, mx("example.com")).Reason, "connection refused")
	})
	t.Run("truncated over TCP", func(t *testing.T) {
		server, s := on(t, longTimeout)
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}, Change: func(m *miekg.Msg) { m.Truncated = true }})
		require.Contains(t, failure(t, s, mx("example.com")).Reason, "truncated answer over TCP")
	})
	t.Run("1,500 MX records", func(t *testing.T) {
		server, s := on(t, longTimeout)
		var records []string
		for i := range 1500 {
			records = append(records, fmt.Sprintf("MX 10 mx%04d.example.com.", i))
		}
		server.Set("example.com", dns.TypeMX, dnstest.Answer{Secure: true, Records: records})
		r := answer(t, s, mx("example.com"))
		require.Len(t, r.MX(), 1500)
		require.Equal(t, dns.Secure, r.Status)
		require.Equal(t, "mx0000.example.com", r.MX()[0].Host)
		require.Equal(t, 2, server.Asked("example.com", dns.TypeMX), "one query over UDP and one over TCP")
	})
}

func TestStubAD(t *testing.T) {
	t.Parallel() // it mostly waits
	server, s := on(t, longTimeout)
	tests := map[string]struct {
		answer dnstest.Answer
		want   dns.Status
	}{
		"AD counts with NOERROR":  {dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example."}}, dns.Secure},
		"AD counts with NODATA":   {dnstest.Answer{Secure: true}, dns.Secure},
		"AD counts with NXDOMAIN": {dnstest.Answer{Secure: true, Rcode: "NXDOMAIN"}, dns.Secure},
		"no AD: data":             {dnstest.Answer{Records: []string{"MX 10 mx.example."}}, dns.Insecure},
		"no AD: NXDOMAIN":         {dnstest.Answer{Rcode: "NXDOMAIN"}, dns.Insecure},
		"AD with SERVFAIL":        {dnstest.Answer{Secure: true, Rcode: "SERVFAIL"}, dns.Indeterminate},
		"AD with REFUSED":         {dnstest.Answer{Secure: true, Rcode: "REFUSED", Records: []string{"MX 10 mx.example."}}, dns.Indeterminate},
		"AD with YXDOMAIN":        {dnstest.Answer{Secure: true, Rcode: "YXDOMAIN"}, dns.Indeterminate},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			domain := strings.NewReplacer(" ", "-", ":", "").Replace(strings.ToLower(name)) + ".example"
			server.Set(domain, dns.TypeMX, tc.answer)
			if tc.want == dns.Indeterminate {
				require.Equal(t, tc.answer.Rcode, failure(t, s, mx(domain)).Reason)
				return
			}
			require.Equal(t, tc.want, answer(t, s, mx(domain)).Status)
		})
	}
}

// "SERVFAIL is a failure, bogus or not. EDE (RFC 8914) is for logs, metrics and the reason text only."
func TestStubServfail(t *testing.T) {
	t.Parallel() // it mostly waits
	server, s := on(t, longTimeout)
	server.Set("bogus.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: miekg.ExtendedErrorCodeDNSBogus, EDEText: "no\x01 sign\xe4ture\n" + strings.Repeat("x", 1000)})
	failed := failure(t, s, mx("bogus.example"))
	require.True(t, failed.Bogus)
	require.True(t, strings.HasPrefix(failed.Reason, "SERVFAIL (DNSSEC Bogus: no? sign?ture?xx"), failed.Reason)
	require.Less(t, len(failed.Reason), 200)
	require.Equal(t, "dns: MX bogus.example: "+failed.Reason, failed.Error())
	require.Equal(t, 1, server.Asked("bogus.example", dns.TypeMX), "it is not asked again")

	server.Set("lame.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: miekg.ExtendedErrorCodeNoReachableAuthority})
	failed = failure(t, s, mx("lame.example"))
	require.False(t, failed.Bogus)
	require.Equal(t, "SERVFAIL (No Reachable Authority)", failed.Reason)

	server.Set("fine.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example."}, EDE: miekg.ExtendedErrorCodeDNSBogus})
	require.Len(t, answer(t, s, mx("fine.example")).MX(), 1, "an EDE decides nothing")
}

func TestStubNames(t *testing.T) {
	t.Parallel() // it mostly waits
	server, s := on(t, longTimeout)
	long := strings.Join(slices.Repeat([]string{strings.Repeat("a", 61)}, 4), ".") // 249 octets on the wire
	for name, tc := range map[string]struct{ asked, want string }{
		"an escaped space":              {`mail\032host.example`, `mail\ host.example`},
		"a space":                       {`mail host.example`, `mail\ host.example`},
		"an octet spelt in digits":      {`\109\097il.example`, `mail.example`},
		"a backslash":                   {`a\\b.example.`, `a\\b.example`},
		"a dot at the end of the label": {`example.a\.`, `example.a\.`},
		"an octet beyond ASCII":         {"m\xfcnchen.example", `m\252nchen.example`},
		"a letter like a K":             {"\u212a.example", `\226\132\170.example`},
		"255 octets":                    {long + ".abcd", long + ".abcd"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Set(tc.want, dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 " + miekg.Fqdn(tc.want)}})
			r := answer(t, s, mx(tc.asked))
			require.Equal(t, []dns.MX{{Preference: 10, Host: tc.want}}, r.MX())
			require.Equal(t, tc.want, r.Name)
			require.Equal(t, tc.want, r.Owner)
		})
	}
	for name, asked := range map[string]string{
		"256 octets": long + ".abcdef", "a label of 64 octets": strings.Repeat("a", 64) + ".example", "an empty label": "a..example",
		"a lone backslash": `a\`,
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "not a domain name", failure(t, s, mx(asked)).Reason)
		})
	}
	server.Set("null.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 0 ."}})
	require.Equal(t, []dns.MX{{Preference: 0, Host: ""}}, answer(t, s, mx("null.example")).MX(), "null MX, RFC 7505")
	require.False(t, answer(t, s, mx("null.example")).Empty())
}

func TestStubTypes(t *testing.T) {
	t.Parallel() // it mostly waits
	server, s := on(t, longTimeout)
	set := func(ty dns.Type, records ...string) *dns.RRset {
		server.Set("example.com", ty, dnstest.Answer{Secure: true, Records: records})
		return answer(t, s, dns.Question{Name: "example.com", Type: ty})
	}
	require.Equal(t, "[192.0.2.1 192.0.2.2]", fmt.Sprint(set(dns.TypeA, "A 192.0.2.1", "A 192.0.2.2", "A 192.0.2.1").Addrs()))
	require.Equal(t, "[2001:db8::1]", fmt.Sprint(set(dns.TypeAAAA, "AAAA 2001:db8::1").Addrs()))
	require.Equal(t, []dns.TLSA{{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte{0xab, 0xcd}}}, set(dns.TypeTLSA, "TLSA 3 1 1 abcd").TLSA())
	require.Equal(t, []string{"v=STSv1; id=1;", "a\"b\\c\x00\xff"}, set(dns.TypeTXT, `TXT "v=STSv1; " "id=1;"`, `TXT "a\"b\\c\000\255"`).TXT())
	require.Equal(t, []string{"mx.example.net"}, set(dns.TypeCNAME, "CNAME MX.example.net.").TXT())
}

// A query takes 3 s, the next one 5 s and the lookup 12 s, here on a smaller scale.
func TestStubTimeouts(t *testing.T) {
	t.Parallel() // it mostly waits
	t.Run("all under the caller's context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int64
		addr := udp(t, func(miekg.ResponseWriter, *miekg.Msg) {
			asked.Add(1)
			cancel()
		})
		s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever, Timeout: longTimeout})
		_, err := s.Lookup(ctx, mx("example.com"), dns.Effort{})
		require.ErrorIs(t, err, context.Canceled)
		require.EqualValues(t, 1, asked.Load())
		require.Empty(t, s.Silent(), "the server is not to blame")
		_, err = s.Lookup(ctx, mx("example.com"), dns.Effort{})
		require.ErrorIs(t, err, context.Canceled)
		require.EqualValues(t, 1, asked.Load(), "no query starts after the end of its context")
	})
	t.Run("one dead server of several does not cost each lookup its time", func(t *testing.T) {
		dead, alive := dnstest.New(t), dnstest.New(t)
		alive.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
		dead.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
		s := newStub(t, stub.Options{Servers: []string{dead.Addr(), alive.Addr()}, Timeout: ample})
		dead.SetDead(true)
		for i := range 20 {
			require.Equal(t, dns.Secure, answer(t, s, mx(fmt.Sprint("d", i, ".example"))).Status)
		}
		require.Equal(t, 1, dead.Queries(), "the others begin with the server that answers")
		require.Equal(t, 20, alive.Queries())
		require.Equal(t, []string{dead.Addr()}, s.Silent())
	})
	t.Run("a server that refuses leads to the next immediately", func(t *testing.T) {
		gone, alive := dnstest.New(t), dnstest.New(t)
		alive.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
		s := newStub(t, stub.Options{Servers: []string{gone.Addr(), alive.Addr()}, Timeout: longTimeout})
		require.NoError(t, gone.Close())
		require.Equal(t, dns.Secure, answer(t, s, mx("example.com")).Status)
	})
	t.Run("a server that is slow, and one that restarts", func(t *testing.T) {
		server, s := on(t, longTimeout)
		server.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
		server.SetDelay(20 * time.Millisecond)
		require.Equal(t, dns.Secure, answer(t, s, mx("slow.example")).Status)
		require.NoError(t, server.Close())
		require.Contains(t, unanswered(server.Addr()), failure(t, s, mx("gone.example")).Reason)
		again, err := dnstest.Start(server.Addr())
		require.NoError(t, err)
		defer func() { _ = again.Close() }()
		require.Equal(t, again.Addr(), server.Addr())
		again.SetOther(dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.example.com."}})
		require.Equal(t, dns.Secure, answer(t, s, mx("back.example")).Status)
	})
	t.Run("no server", func(t *testing.T) {
		const unused = "127.99.0.1:5"
		s := newStub(t, stub.Options{Servers: []string{unused}, Timeout: longTimeout, Trust: stub.TrustNever})
		require.Contains(t, unanswered(unused), failure(t, s, mx("example.com")).Reason)
	})
}

func TestStubObserve(t *testing.T) {
	t.Parallel() // it mostly waits
	server := dnstest.New(t)
	var mu sync.Mutex
	var events []string
	s := newStub(t, stub.Options{Servers: []string{server.Addr()}, Timeout: ample, Observe: func(ty dns.Type, rcode string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, ty.String()+" "+rcode)
		if took <= 0 {
			events = append(events, "took no time")
		}
	}})
	server.Set("servfail.example", dns.TypeTLSA, dnstest.Answer{Rcode: "SERVFAIL"})
	server.Set("dead.example", dns.TypeMX, dnstest.Answer{Drop: true})
	server.Set("odd.example", dns.TypeMX, dnstest.Answer{Change: func(m *miekg.Msg) { m.Rcode = 14 }})
	_, _ = s.Lookup(t.Context(), mx("none.example"), dns.Effort{})
	_, _ = s.Lookup(t.Context(), dns.Question{Name: "servfail.example", Type: dns.TypeTLSA}, dns.Effort{})
	_, _ = s.Lookup(t.Context(), mx("dead.example"), dns.Effort{})
	_, _ = s.Lookup(t.Context(), mx("odd.example"), dns.Effort{})
	server.Set("long.example", dns.TypeMX, dnstest.Answer{Truncate: true})
	require.NoError(t, server.StopTCP()) // the kernel limits the errors for a closed UDP port, and not those for TCP
	_, _ = s.Lookup(t.Context(), mx("long.example"), dns.Effort{})
	require.Equal(t, []string{"MX NXDOMAIN", "TLSA SERVFAIL", "MX timeout", "MX timeout", "MX RCODE 14", "MX error"}, events)
}
