package bulk_test

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

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/bulk"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/prefix"
)

// receivers has reports by domain; any other name counts as "not a domain".
type receivers map[string]report.Report

func (c receivers) Check(_ context.Context, domain string) report.Report {
	r, ok := c[domain]
	if !ok {
		return report.Report{Input: domain, Verdict: report.VerdictNoMail, Findings: []report.Finding{{Severity: report.Error}}}
	}
	r.Input, r.Domain = domain, domain
	return r
}

func lab() receivers {
	found := report.RRset{State: "found"}
	return receivers{
		"kept.example":   {Verdict: report.VerdictKept, Set: "all", DNSSEC: "secure", RRset: found, MX: []report.Host{{Prefix: "smtps"}}},
		"broken.example": {Verdict: report.VerdictBroken, Set: "all", DNSSEC: "secure", RRset: found, MX: []report.Host{{Prefix: "starttls"}}},
		"plain.example":  {Verdict: report.VerdictNone, Set: "none", DNSSEC: "insecure", RRset: found, MX: []report.Host{{Prefix: "none"}}},
		"down.example":   {Verdict: report.VerdictUntested, Set: "none", RRset: report.RRset{State: "failed"}},
		"gone.example":   {Verdict: report.VerdictNoMail, Set: "none", RRset: report.RRset{State: "nxdomain"}, Findings: []report.Finding{{Severity: report.Error}}},
		"null.example":   {Verdict: report.VerdictNoMail, Set: "none", RRset: report.RRset{State: "null"}},
	}
}

// scan checks a list and returns the reports, in the order of the output.
func scan(t *testing.T, list string, o bulk.Options) (reports []report.Report, s bulk.Summary, progress string) {
	t.Helper()
	var out, shown bytes.Buffer
	o.Out, o.Progress = &out, &bulk.Progress{Out: &shown}
	s, err := bulk.Scan(t.Context(), lab().Check, strings.NewReader(list), o)
	require.NoError(t, err)
	for line := range strings.Lines(out.String()) {
		var r report.Report
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		reports = append(reports, r)
	}
	return reports, s, shown.String()
}

func inputs(reports []report.Report) []string {
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
		{"a comment after a domain", "b.example # why\nc.example\t# ask joe@d.example\n", []string{"b.example", "c.example"}},
		{"addresses with # in the local part", "user#tag@a.example\n\"u\\\"ser #1\"@b.example\n", []string{"a.example", "b.example"}},
		{"addresses, without their local parts", "user@a.example\n\"user @ home\"@b.example\r\nuser@", []string{"a.example", "b.example", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reports, _, _ := scan(t, c.list, bulk.Options{})
			require.Equal(t, c.want, inputs(reports))
		})
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	list := "# a comment\nkept.example\n\n  broken.example \nno domain\nplain.example\ndown.example\ngone.example\nnull.example"
	all := []string{"kept.example", "broken.example", "no domain", "plain.example", "down.example", "gone.example", "null.example"}

	reports, s, progress := scan(t, list, bulk.Options{Jobs: 3})
	require.Equal(t, all, inputs(reports), "in the order of the list")
	require.Equal(t, bulk.Summary{Domains: 7, Exit: 3, Counts: map[string]int{
		"with the prefix " + prefix.STARTTLS.Prefix(): 1, "with the prefix " + prefix.SMTPS.Prefix(): 1,
		"with a signed MX RRset": 2, "with a prefix and a signed MX RRset": 2,
		"keep their promise": 1, "do not work as they should": 1, "have no prefix": 1, "could not be tested from here": 1,
		"do not exist": 1, "accept no mail (null MX)": 1, "are not domain names": 1,
	}}, s)
	require.Regexp(t, `^7 of 7 domains, [0-9.]+/s, 0s left *\n$`, progress)

	reports, _, _ = scan(t, list, bulk.Options{Jobs: 3, Unordered: true})
	require.ElementsMatch(t, all, inputs(reports))

	var before bytes.Buffer
	for _, r := range reports[:2] {
		require.NoError(t, json.NewEncoder(&before).Encode(r))
	}
	torn, err := json.Marshal(reports[2])
	require.NoError(t, err)
	before.Write(torn[:len(torn)/2])
	done, err := bulk.ReadDone(&before)
	require.NoError(t, err)
	rest, s, progress := scan(t, list, bulk.Options{Jobs: 3, Done: done})
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
	_, s, _ := scan(t, "gone.example\nnull.example\nhttps://a.example/\n[192.0.2.1]\n", bulk.Options{})
	require.Equal(t, bulk.Summary{Domains: 4, Counts: map[string]int{
		"do not exist": 1, "accept no mail (null MX)": 1, "are not domain names": 2,
	}}, s)
}

// broken is a writer whose disk is full.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestScanThatCannotContinue(t *testing.T) {
	t.Parallel()
	c := lab()
	list := strings.Repeat("a.example\n", 1000)
	for _, unordered := range []bool{false, true} {
		_, err := bulk.Scan(t.Context(), c.Check, strings.NewReader(list), bulk.Options{Jobs: 4, Out: broken{}, Unordered: unordered})
		require.ErrorContains(t, err, "no space left")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out bytes.Buffer
		s, err := bulk.Scan(ctx, c.Check, strings.NewReader(list), bulk.Options{Jobs: 4, Out: &out, Unordered: unordered})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, out.String(), "what was cut short does not count as done")
		require.Zero(t, s.Domains)
	}
	_, err := bulk.Scan(t.Context(), c.Check, strings.NewReader(strings.Repeat("x", 2<<20)), bulk.Options{Jobs: 1, Out: io.Discard})
	require.EqualError(t, err, "line 1 is too long: write one domain per line, with at most 1 MiB")
}

// counting has every domain, and counts the checks under way.
type counting struct{ now, most atomic.Int64 }

func (c *counting) Check(_ context.Context, domain string) report.Report {
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	return report.Report{Input: domain, Domain: domain, Verdict: report.VerdictBroken}
}

func TestScanOfTenThousandDomains(t *testing.T) {
	t.Parallel()
	c := &counting{}
	var list strings.Builder
	const many, jobs = 10_000, 64
	for i := range many {
		fmt.Fprintf(&list, "d%d.example\n", i)
	}
	next := 0
	out := writerFunc(func(line []byte) {
		require.Contains(t, string(line), fmt.Sprintf(`"domain":"d%d.example"`, next))
		next++
	})
	s, err := bulk.Scan(t.Context(), c.Check, strings.NewReader(list.String()), bulk.Options{Jobs: jobs, Out: out})
	require.NoError(t, err)
	require.Equal(t, many, next)
	require.Equal(t, many, s.Counts["do not work as they should"])
	require.LessOrEqual(t, c.most.Load(), int64(jobs))
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// A read from a terminal still blocks after an interrupt.
func TestScanEndsWhileTheListBlocks(t *testing.T) {
	t.Parallel()
	for _, unordered := range []bool{false, true} {
		list, typed := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		checked := make(chan struct{})
		go func() {
			_, _ = io.WriteString(typed, "a.example\n")
			<-checked
			cancel()
		}()
		c := func(context.Context, string) report.Report { close(checked); return report.Report{} }
		_, err := bulk.Scan(ctx, c, list, bulk.Options{Jobs: 1, Out: io.Discard, Unordered: unordered})
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, list.Close())
	}
}
