package probe_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
)

// TestProberOnTheWire goes the whole way, from the question to the verdict: a real resolver, real sockets, every cause.
func TestProberOnTheWire(t *testing.T) {
	t.Parallel()
	server := dnstest.New(t)
	stub, err := stub.New(stub.Options{Servers: []string{server.Addr()}})
	require.NoError(t, err)
	require.True(t, stub.SelfTest(t.Context()))
	ca := smtptest.NewCA(t)
	// Its port is that of all receivers: the others have addresses of this test alone.
	first := ca.Names(t, "smtps-x.open6.example")
	port := smtptest.Start(t, "[::1]:0", smtptest.Behaviour{Implicit: true, Cert: &first}).Addr().Port()

	type at struct {
		address string
		b       *smtptest.Behaviour // nil: no listener
	}
	cert := func(l smtptest.Leaf) *tls.Certificate {
		c := ca.Issue(t, l)
		return &c
	}
	sound := func(host string) *smtptest.Behaviour {
		return &smtptest.Behaviour{Implicit: true, Cert: cert(smtptest.Leaf{Names: []string{host}})}
	}
	const name = "smtps-x.%s.example"
	hosts := map[string]struct {
		at    []at
		state probe.State
		cause smtptls.Cause
	}{
		"open":  {[]at{{"127.31.0.1", sound("smtps-x.open.example")}}, probe.Open, smtptls.CauseNone},
		"open6": {[]at{{"::1", nil}}, probe.Open, smtptls.CauseNone},
		"both":  {[]at{{"127.31.0.2", sound("smtps-x.both.example")}, {"127.31.0.3", sound("smtps-x.both.example")}}, probe.Open, smtptls.CauseNone},
		"half":  {[]at{{"127.31.0.4", sound("smtps-x.half.example")}, {"127.31.0.5", nil}}, probe.Closed, smtptls.Refused},
		"shut":  {[]at{{"127.31.0.6", nil}}, probe.Closed, smtptls.Refused},
		"clear": {[]at{{"127.31.0.7", &smtptest.Behaviour{}}}, probe.Closed, smtptls.Plaintext},
		"name":  {[]at{{"127.31.0.8", sound("x.name.example")}}, probe.Closed, smtptls.CertificateName},
		"chain": {[]at{{"127.31.0.9", &smtptest.Behaviour{Implicit: true, Cert: cert(smtptest.Leaf{Names: []string{"smtps-x.chain.example"}, SelfSigned: true})}}}, probe.Closed, smtptls.CertificateChain},
		"old": {[]at{{"127.31.0.10", &smtptest.Behaviour{Implicit: true, Cert: cert(smtptest.Leaf{
			Names: []string{"smtps-x.old.example"}, NotBefore: time.Now().AddDate(0, 0, -2), NotAfter: time.Now().AddDate(0, 0, -1)})}}}, probe.Closed, smtptls.CertificateExpired},
		"busy":    {[]at{{"127.31.0.11", &smtptest.Behaviour{Implicit: true, Cert: cert(smtptest.Leaf{Names: []string{"smtps-x.busy.example"}}), Banner: "421 later"}}}, probe.Closed, smtptls.Banner},
		"drops":   {[]at{{"127.31.0.12", &smtptest.Behaviour{Implicit: true, Drop: "handshake"}}}, probe.Closed, smtptls.TLSHandshake},
		"nowhere": {nil, probe.Closed, smtptls.NoAddress},
		"far":     {[]at{{"255.255.255.255", nil}}, probe.Unknown, smtptls.CauseNone},
	}
	for domain, h := range hosts {
		var a, aaaa []string
		for _, where := range h.at {
			if ip := net.ParseIP(where.address); ip.To4() != nil {
				a = append(a, "A "+where.address)
			} else {
				aaaa = append(aaaa, "AAAA "+where.address)
			}
			if where.b != nil {
				smtptest.Start(t, net.JoinHostPort(where.address, fmt.Sprint(port)), *where.b)
			}
		}
		server.Set(fmt.Sprintf(name, domain), dns.TypeA, dnstest.Answer{Records: a})
		server.Set(fmt.Sprintf(name, domain), dns.TypeAAAA, dnstest.Answer{Records: aaaa})
	}

	options := probe.Options{
		Port: port, Roots: ca.Roots, Special: true, Resolver: dnscache.New(stub, dnscache.Options{Epoch: stub.Epoch}), StateDir: filepath.Join(t.TempDir(), "state"), Helo: "client.example",
		Logger: slog.New(slog.DiscardHandler),
	}
	p := probe.New(options)
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { _ = p.Run(ctx) })
	for domain := range hosts {
		require.Equal(t, probe.Unknown, ask(p, fmt.Sprintf(name, domain)).State)
	}
	probed := func() bool {
		n := uint64(0)
		for _, results := range p.Stats().Results {
			n += results
		}
		return n >= uint64(len(hosts))
	}
	require.Eventually(t, probed, time.Minute, 10*time.Millisecond)
	for domain, h := range hosts {
		v := ask(p, fmt.Sprintf(name, domain))
		require.Equal(t, h.state, v.State, "%s: %s", domain, v.Why)
		require.Equal(t, h.cause, v.Cause, "%s: %s", domain, v.Why)
		require.NotEmpty(t, v.Why)
	}
	st := p.Stats()
	require.EqualValues(t, 3, st.Hosts["open"])
	require.EqualValues(t, 1, st.Hosts["unknown"])
	require.Equal(t, uint64(2), st.Results["refused"])
	require.EqualValues(t, len(hosts), st.Hosts["open"]+st.Hosts["closed"]+st.Hosts["unknown"])
	cancel()
	ended.Wait()

	again := probe.New(options)
	require.Equal(t, probe.Open, ask(again, "smtps-x.open6.example").State, "after a restart")

	// Under other roots nothing is known about the host.
	options.Roots = smtptest.NewCA(t).Roots
	again.Configure(options)
	require.Equal(t, probe.Unknown, ask(again, "smtps-x.open6.example").State)
	require.Equal(t, smtptls.CertificateChain, again.Probe(t.Context(), "smtps-x.open6.example").Cause)
}

func ask(p *probe.Prober, name string) probe.Verdict {
	p.Want(name)
	return p.Verdict(name)
}
