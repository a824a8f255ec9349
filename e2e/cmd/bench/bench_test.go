package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/socketmap"
)

func TestNetstringSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want int
		ok   bool
	}{
		{"", 0, true},
		{"12", 0, true},
		{"5:hel", 8, true},
		{"5:hello,", 8, true},
		{"5:hello,5:w", 8, true},
		{"0:,", 3, true},
		{"x:", 0, false},
		{"-1:", 0, false},
		{"999999999:", 0, false},
	} {
		got, err := netstringSize([]byte(c.in))
		require.Equal(t, c.ok, err == nil, c.in)
		require.Equal(t, c.want, got, c.in)
	}
}

func TestTheConstantServerUnderLoad(t *testing.T) {
	t.Parallel()
	address := "unix:" + filepath.Join(t.TempDir(), "sock")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveConstant(ctx, []string{address}, "OK yes") }()
	require.Eventually(t, func() bool {
		c, err := socketmap.Dial(ctx, address)
		return err == nil && c.Close() == nil
	}, 30*time.Second, time.Millisecond)

	requests := [][]byte{socketmap.AppendNetstring(nil, "tls-policy a.example"), socketmap.AppendNetstring(nil, "tls-policy longer.example")}
	to := target{address: address, requests: requests}
	got, err := to.expect("OK yes", "OK ").load(ctx, 4, 50*time.Millisecond)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(got.took), 4, "each connection was answered")
	require.Positive(t, got.rate)
	_, err = to.expect("OK no!", "OK no!").load(ctx, 1, time.Millisecond)
	require.ErrorContains(t, err, "an unexpected reply", "a wrong reply is no measurement")

	cancel()
	require.NoError(t, <-ended)
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var took []time.Duration
	for i := range 1000 {
		took = append(took, time.Duration(i))
	}
	require.Equal(t, time.Duration(500), quantile(took, 0.5))
	require.Equal(t, time.Duration(999), quantile(took, 0.999))
	require.Zero(t, quantile(nil, 0.5))
	require.InDelta(t, 2, median([]float64{3, 1, 2}), 0)
	require.InDelta(t, 2.5, median([]float64{4, 1, 3, 2}), 0)
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := report{to: &out}
	r.text("# Title")
	r.table([]string{"what", "µs"}, []string{"a", thousands(1234567)})
	const want = `# Title

| what |        µs |
|------|----------:|
| a    | 1,234,567 |
`
	require.Equal(t, want, out.String())
	require.Equal(t, want, r.String(), "the file is what the terminal shows")
}

// TestKinds has the lab answer what the names of the kinds promise.
func TestKinds(t *testing.T) {
	t.Parallel()
	lab := dnstest.New(t)
	stub, err := stub.New(stub.Options{Servers: []string{lab.Addr()}})
	require.NoError(t, err)
	require.True(t, stub.SelfTest(t.Context()))
	for i, k := range kinds() {
		domain := fmt.Sprintf("k%d.example", i)
		k.publish(lab, domain, time.Nanosecond)
		mx, err := stub.Lookup(t.Context(), dns.Question{Name: domain, Type: dns.TypeMX}, dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, []dns.MX{{Preference: 10, Host: k.host(domain)}}, mx.MX)
		require.Equal(t, k.signed, mx.Status == dns.Secure, k.name)
		tlsa, err := stub.Lookup(t.Context(), dns.Question{Name: "_25._tcp." + k.host(domain), Type: dns.TypeTLSA}, dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, k.tlsa, len(tlsa.TLSA) > 0, k.name)
		txt, err := stub.Lookup(t.Context(), dns.Question{Name: "_mta-sts." + domain, Type: dns.TypeTXT}, dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, k.sts, len(txt.TXT) > 0, k.name)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	s := server{pid: os.Getpid()}
	rss, err := s.memory("VmRSS")
	require.NoError(t, err)
	require.Positive(t, rss)
	_, err = s.memory("VmNothing")
	require.Error(t, err)
	used, err := s.cpu()
	require.NoError(t, err)
	require.GreaterOrEqual(t, used, time.Duration(0))
	_, err = daemon.Start(t.Context(), daemon.Options{Binary: "/nonexistent", Dir: t.TempDir(), Listen: "unix:DIR/sock"})
	require.ErrorContains(t, err, "make build first")
}

func TestWatch(t *testing.T) {
	t.Parallel()
	address := "unix:" + filepath.Join(t.TempDir(), "sock")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serveConstant(ctx, []string{address}, "OK secure match=starttls-mx.h0000000.example servername=hostname")
	}()
	require.Eventually(t, func() bool {
		w, _, err := look(ctx, address, time.Millisecond)
		return err == nil && w.n > 0 && w.longest > 0
	}, 30*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

func TestStalls(t *testing.T) {
	t.Parallel()
	at := func(from, to int) span { return span{time.Unix(0, int64(from)*1e6), time.Unix(0, int64(to)*1e6)} }
	all := merge([]span{at(30, 50), at(10, 20), at(12, 14), at(18, 25), at(90, 91)})
	require.Equal(t, []span{at(10, 25), at(30, 50), at(90, 91)}, all)
	require.Equal(t, 15*time.Millisecond, at(0, 35).without(all), "one whole, and the beginning of another")
	require.Equal(t, 5*time.Millisecond, at(25, 30).without(all), "none")
	require.Zero(t, at(35, 45).without(all), "within one")

	s := seen{longest: 35 * time.Millisecond, over: 2}
	s.forgive([]span{at(0, 35), at(25, 36), at(60, 75)}, all)
	require.Equal(t, 15*time.Millisecond, s.own)
	require.Equal(t, 2, s.ownOver)
	s.forgive([]span{at(30, 45)}, all)
	require.Equal(t, late, s.own, "no more is known of the others")
	require.Zero(t, s.ownOver)

	end, err := watchStalls(t.Context())
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond)
	found, err := end()
	require.NoError(t, err)
	for _, one := range found {
		require.Greater(t, one.to.Sub(one.from), late)
	}
}

// TestNeighbours has them do what they are told, and say what went wrong.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	orders, give := io.Pipe()
	take, said := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- beNeighbours(t.Context(), orders, said) }()
	n := &neighbours{in: give, out: bufio.NewScanner(take)}
	resolverAddress, err := n.heard()
	require.NoError(t, err)

	address := "unix:" + filepath.Join(t.TempDir(), "sock")
	go func() { _ = serveConstant(t.Context(), []string{address}, "OK yes") }()
	require.Eventually(t, func() bool {
		c, err := socketmap.Dial(t.Context(), address)
		return err == nil && c.Close() == nil
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, n.do(order{letter: "x", n: 3, ttl: time.Hour, connections: 2, address: address}))
	require.Error(t, n.do(order{letter: "x", n: 3, connections: 2, address: address + "no"}))

	stub, err := stub.New(stub.Options{Servers: []string{resolverAddress}})
	require.NoError(t, err)
	require.True(t, stub.SelfTest(t.Context()))
	mx, err := stub.Lookup(t.Context(), dns.Question{Name: numbered("x", 2), Type: dns.TypeMX}, dns.Effort{})
	require.NoError(t, err)
	require.Equal(t, []dns.MX{{Preference: 10, Host: "starttls-mx.x0000002.example"}}, mx.MX)
	require.NoError(t, give.Close())
	require.NoError(t, <-ended)
}

func TestIdly(t *testing.T) {
	t.Parallel()
	var text []byte
	require.NoError(t, idly(func() (err error) {
		text, err = exec.CommandContext(t.Context(), "cat", "/proc/self/stat").Output()
		return err
	}))
	const policy, idle = 41 - 1, "5" // proc_pid_stat(5), sched(7)
	require.Equal(t, idle, strings.Fields(string(text))[policy], "what is started is as idle")
}

// TestStoredPolicies has a store find what the bench puts on disk.
func TestStoredPolicies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, storePolicies(dir, 10))
	lab := dnstest.New(t)
	stub, err := stub.New(stub.Options{Servers: []string{lab.Addr()}})
	require.NoError(t, err)
	require.True(t, stub.SelfTest(t.Context()))
	lab.Set("_mta-sts.p7.example", dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "v=STSv1; id=1;"`}})
	store, err := stsstore.New(stsstore.Options{Resolver: stub, Fetcher: &mtasts.Fetcher{Resolver: stub}, StateDir: dir})
	require.NoError(t, err)
	require.Equal(t, mtasts.Found, store.Lookup(t.Context(), "p7.example", dns.Effort{}).State)
	require.NoError(t, store.Close())
}
