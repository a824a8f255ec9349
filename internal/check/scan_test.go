package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/prefix"
)

// scan checks a list and returns the reports, in the order of the output.
func (l *lab) scan(list string, o check.ScanOptions) (reports []check.Report, s check.Summary, progress string) {
	l.t.Helper()
	c, err := check.New(l.options)
	require.NoError(l.t, err)
	defer func() { require.NoError(l.t, c.Close()) }()
	var out, shown bytes.Buffer
	o.Out, o.Progress = &out, &check.Progress{Out: &shown}
	s, err = c.Scan(l.t.Context(), strings.NewReader(list), o)
	require.NoError(l.t, err)
	for line := range strings.Lines(out.String()) {
		var r check.Report
		require.NoError(l.t, json.Unmarshal([]byte(line), &r))
		reports = append(reports, r)
	}
	return reports, s, shown.String()
}

func inputs(reports []check.Report) []string {
	names := []string{}
	for _, r := range reports {
		names = append(names, r.Input)
	}
	return names
}

func TestScanReadsWhatOthersWrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, list string
		want       []string
	}{
		{"lines that end in CRLF, and an empty one", "a.example\r\n\r\nb.example\r\n", []string{"a.example", "b.example"}},
		{"a comment with blanks in front", "  # a.example\n\tb.example\n", []string{"b.example"}},
		{"addresses, without their local parts", "user@a.example\n\"user @ home\"@b.example\r\nuser@", []string{"a.example", "b.example", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			reports, _, _ := l.scan(c.list, check.ScanOptions{})
			require.Equal(t, c.want, inputs(reports))
			for _, r := range reports {
				require.Equal(t, r.Input, r.Domain)
			}
		})
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.sound("kept.example", "smtps-a.kept.example")
	l.domain("broken.example", signed(), "starttls-b.broken.example")
	l.receive(l.host("starttls-b.broken.example"), smtptest.Behaviour{})
	l.domain("plain.example", dnstest.Answer{}, "mx.plain.example")
	l.dns.Set("down.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL"})
	l.dns.Set("gone.example", dns.TypeMX, dnstest.Answer{Rcode: "NXDOMAIN", Secure: true})
	l.dns.Set("null.example", dns.TypeMX, dnstest.Answer{Records: []string{"MX 0 ."}})
	list := "# a comment\nkept.example\n\n  broken.example \nno domain\nplain.example\ndown.example\ngone.example\nnull.example"
	all := []string{"kept.example", "broken.example", "no domain", "plain.example", "down.example", "gone.example", "null.example"}

	reports, s, progress := l.scan(list, check.ScanOptions{Jobs: 3})
	require.Equal(t, all, inputs(reports), "in the order of the list")
	require.Equal(t, check.Summary{
		Domains: 7, Prefixed: map[prefix.Class]int{prefix.STARTTLS: 1, prefix.SMTPS: 1}, Signed: 2, SignedPromise: 2, Kept: 1, Broken: 1, None: 1, Untested: 1, Exit: 3,
		NoMail: 3, NotDomains: 1, NoSuchDomain: 1, NullMX: 1,
	}, s)
	require.Regexp(t, `^7 of 7 domains, [0-9.]+/s, 0s left *\n$`, progress)

	reports, _, _ = l.scan(list, check.ScanOptions{Jobs: 3, Unordered: true})
	require.ElementsMatch(t, all, inputs(reports))

	var before bytes.Buffer
	for _, r := range reports[:2] {
		require.NoError(t, json.NewEncoder(&before).Encode(r))
	}
	torn, err := json.Marshal(reports[2])
	require.NoError(t, err)
	before.Write(torn[:len(torn)/2])
	done, err := check.ReadDone(&before)
	require.NoError(t, err)
	rest, s, progress := l.scan(list, check.ScanOptions{Jobs: 3, Done: done})
	require.ElementsMatch(t, inputs(reports[2:]), inputs(rest), "what is torn is done again")
	require.Equal(t, 2, s.Skipped)
	require.Contains(t, progress, "7 of 7 domains")

	var table strings.Builder
	require.NoError(t, s.Write(&table))
	require.Contains(t, table.String(), "5 domains checked\n")
	require.Regexp(t, `\d do not exist\n +\d accept no mail \(null MX\)\n +\d are not domain names\n`, table.String())
	require.Contains(t, table.String(), "2 left out: done before\n")
}

// A list of domains without mail has no broken promise in it.
func TestScanOfDomainsWithoutMail(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.options.NoConnect = true
	l.dns.Set("gone.example", dns.TypeMX, dnstest.Answer{Rcode: "NXDOMAIN"})
	l.dns.Set("gone.example", dns.TypeA, dnstest.Answer{Rcode: "NXDOMAIN"})
	l.dns.Set("gone.example", dns.TypeAAAA, dnstest.Answer{Rcode: "NXDOMAIN"})
	l.dns.Set("null.example", dns.TypeMX, dnstest.Answer{Records: []string{"MX 0 ."}})
	_, s, _ := l.scan("gone.example\nnull.example\nhttps://a.example/\n[192.0.2.1]\n", check.ScanOptions{})
	require.Equal(t, check.Summary{Domains: 4, NoMail: 4, NotDomains: 2, NoSuchDomain: 1, NullMX: 1}, s)
}

// broken is a writer whose disk is full.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestScanThatCannotGoOn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.options.NoConnect = true
	c, err := check.New(l.options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	list := strings.Repeat("a.example\n", 1000)
	for _, unordered := range []bool{false, true} {
		_, err = c.Scan(t.Context(), strings.NewReader(list), check.ScanOptions{Jobs: 4, Out: broken{}, Unordered: unordered})
		require.ErrorContains(t, err, "no space left")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out bytes.Buffer
		s, err := c.Scan(ctx, strings.NewReader(list), check.ScanOptions{Jobs: 4, Out: &out, Unordered: unordered})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, out.String(), "what was cut short does not count as done")
		require.Zero(t, s.Domains)
	}
	_, err = c.Scan(t.Context(), strings.NewReader(strings.Repeat("x", 2<<20)), check.ScanOptions{Jobs: 1, Out: io.Discard})
	require.ErrorContains(t, err, "too long")
}

// counting is a resolver with every domain in the world, and counts the lookups under way.
type counting struct{ now, most atomic.Int64 }

func (c *counting) Lookup(_ context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	r := &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: dns.Secure, Expires: time.Now().Add(time.Hour)}
	if q.Type == dns.TypeMX {
		r.MX = []dns.MX{{Preference: 10, Host: "starttls-mx." + q.Name}}
	}
	return r, nil
}

func (*counting) State() stub.State { return stub.State{Result: stub.Validating} }

func TestScanOfTenThousandDomains(t *testing.T) {
	t.Parallel()
	dns := &counting{}
	c, err := check.New(check.Options{Resolver: dns, DNS: dns, NoConnect: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	var list strings.Builder
	const many = 10_000
	for i := range many {
		fmt.Fprintf(&list, "d%d.example\n", i)
	}
	const jobs = 64
	next := 0
	out := writerFunc(func(line []byte) {
		require.Contains(t, string(line[:200]), fmt.Sprintf(`"domain":"d%d.example"`, next))
		next++
	})
	s, err := c.Scan(t.Context(), strings.NewReader(list.String()), check.ScanOptions{Jobs: jobs, Out: out})
	require.NoError(t, err)
	require.Equal(t, many, next)
	require.Equal(t, check.Summary{
		Domains: many, Prefixed: map[prefix.Class]int{prefix.STARTTLS: many}, Signed: many, SignedPromise: many, Broken: many, Exit: 1,
	}, s, "they have no address")
	require.LessOrEqual(t, dns.most.Load(), int64(8*jobs))
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}
