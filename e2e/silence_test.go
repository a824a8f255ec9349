//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// answerWithin is how long an answer may take while one DNS question is not answered.
const answerWithin = 4 * time.Second

// TestOneUnansweredQuestion leaves each single DNS question about each kind of domain unanswered, first without any
// answer, then with SERVFAIL. Every answer is right for what is still known, and none takes longer than answerWithin.
func TestOneUnansweredQuestion(t *testing.T) {
	const copies = 32 // of a kind: one per question and way, spare ones, and one whose questions are all answered
	l := newLab(t, lab.Options{})
	kinds := cases.Kinds()
	domains := make([][]cases.Domain, len(kinds))
	for i, k := range kinds {
		for n := range copies {
			domains[i] = append(domains[i], k.Add(l, fmt.Sprintf("k%d-n%d", i, n)))
		}
	}
	require.NoError(t, l.Prepare())
	require.NoError(t, l.Resolver.Start(t.Context()))
	s := &silence{asked: map[string]bool{}, stop: map[string]lab.Verdict{}}
	relay := &lab.Relay{Addr: l.Upstream.Addr, Upstream: l.Resolver.Addr, Judge: s.judge}
	require.NoError(t, relay.Start())
	t.Cleanup(relay.Close)
	p := policydBehind(t, l, relay.Addr, "silence")
	t.Cleanup(func() { require.NoError(t, p.Stop()) })

	var trials []trial
	spare := make([]int, len(kinds)) // the number of the next unused domain of the kind
	// prepare leaves a question unanswered about a domain that policyd has not been asked about.
	prepare := func(kind int, question string, v lab.Verdict) trial {
		spare[kind]++
		require.Less(t, spare[kind], copies, "%s: too many questions", kinds[kind].Name)
		d := domains[kind][spare[kind]]
		s.leave(d.Fill(question), v)
		return trial{kind: kind, domain: d, question: d.Fill(question), verdict: v}
	}
	for i, k := range kinds {
		whole := domains[i][0]
		got, err := p.Ask(t.Context(), whole.Question())
		require.NoError(t, err)
		if k.Map == "transport" {
			// The first answer may come before the lookup ends.
			require.Eventually(t, func() bool {
				got, err = p.Ask(t.Context(), whole.Question())
				return err == nil && got.Status == socketmap.StatusOK
			}, longest, tick, "%s", k.Name)
		}
		require.Equal(t, whole.Fill(k.Answer), answer(got), "%s, every question answered", k.Name)
		for _, q := range s.about(whole.Name) {
			for _, v := range []lab.Verdict{lab.Drop, lab.ServFail} {
				trials = append(trials, prepare(i, whole.Generalise(q), v))
			}
		}
	}
	const concurrent = 16
	var group errgroup.Group
	group.SetLimit(concurrent)
	for i := range trials {
		group.Go(func() error { return trials[i].ask(t.Context(), p) })
	}
	require.NoError(t, group.Wait())
	// The machine may have been too busy for one of these many answers: a late one is tried again alone, with a new domain.
	for i, late := range trials {
		for again := 0; again < 3 && trials[i].took > answerWithin; again++ {
			trials[i] = prepare(late.kind, late.domain.Generalise(late.question), late.verdict)
			require.NoError(t, trials[i].ask(t.Context(), p))
		}
	}
	var wrong []string
	var slowest time.Duration
	for _, trial := range trials {
		line, fine := trial.judge()
		if !fine {
			wrong = append(wrong, line)
		}
		t.Log(line)
		slowest = max(slowest, trial.took)
	}
	require.Empty(t, strings.Join(wrong, "\n"), "%d answers are wrong or late", len(wrong))
	fmt.Printf("ok   %d DNS questions about %d kinds of domain left unanswered, one each: slowest answer %d ms\n",
		len(trials), len(kinds), slowest.Milliseconds())
}

// trial is a domain with one unanswered question.
type trial struct {
	kind     int
	domain   cases.Domain
	question string
	verdict  lab.Verdict
	got      socketmap.Reply
	took     time.Duration
}

// ask asks the question of a trial and measures how long the answer takes.
func (t *trial) ask(ctx context.Context, p *daemon.Process) (err error) {
	begun := time.Now()
	t.got, err = p.Ask(ctx, t.domain.Question())
	t.took = time.Since(begun)
	return err
}

// judge returns the line of a trial and reports whether the answer was right and in time.
func (t trial) judge() (string, bool) {
	right := t.domain.Right(t.question)
	fine := slices.Contains(right, answer(t.got)) && t.took <= answerWithin
	way := "silent  "
	if t.verdict == lab.ServFail {
		way = "SERVFAIL"
	}
	line := fmt.Sprintf("%-38s %s %-36s %6d ms  %s", t.domain.Kind.Name, way, t.domain.Generalise(t.question),
		t.took.Milliseconds(), t.domain.Generalise(t.got.String()))
	if !fine {
		line += fmt.Sprintf("; right is %s", t.domain.Generalise(strings.Join(right, " | ")))
	}
	return line, fine
}

// silence records the questions and stops some of them.
type silence struct {
	mu    sync.Mutex
	asked map[string]bool
	stop  map[string]lab.Verdict
}

// leave leaves a question without an answer.
func (s *silence) leave(question string, v lab.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop[question] = v
}

func (s *silence) judge(q lab.DNSQuestion) lab.Verdict {
	question := q.Type + " " + strings.TrimSuffix(strings.ToLower(q.Name), ".")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[question] = true
	return s.stop[question]
}

// about returns the questions about names in a domain, except the MX question, sorted.
func (s *silence) about(domain string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var questions []string
	for q := range s.asked {
		if strings.HasSuffix(q, domain) && !strings.HasPrefix(q, "MX ") {
			questions = append(questions, q)
		}
	}
	slices.Sort(questions)
	return questions
}
