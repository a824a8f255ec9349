//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
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
	const copies = 24 // of a kind: one for each question and way, and one whose questions are all answered
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
	dir := filepath.Join(l.Dir, "silence")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "state"), 0o700))
	p, err := daemon.Start(t.Context(), daemon.Options{
		Binary: source + "/bin/policyd", Dir: dir, Listen: "unix:DIR/sock",
		Settings: fmt.Sprintf(matrixSettings, relay.Addr, l.CAFile()),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	trusted(t, p)

	var trials []trial
	for i, k := range kinds {
		whole := domains[i][0]
		got, err := ask(t.Context(), p, lab.Question{Map: k.Map, Key: whole.Fill(k.Key)})
		require.NoError(t, err)
		if k.Map == "transport" {
			// The first answer may come before the lookup ends.
			require.Eventually(t, func() bool {
				got, err = ask(t.Context(), p, lab.Question{Map: k.Map, Key: whole.Fill(k.Key)})
				return err == nil && got.Status == socketmap.StatusOK
			}, longest, tick, "%s", k.Name)
		}
		require.Equal(t, whole.Fill(k.Answer), answer(got), "%s, every question answered", k.Name)
		next := 1
		for _, q := range s.about(whole.Name) {
			for _, v := range []lab.Verdict{lab.Drop, lab.ServFail} {
				require.Less(t, next, copies, "%s: too many questions", k.Name)
				d := domains[i][next]
				next++
				question := strings.ReplaceAll(q, whole.Name, d.Name)
				s.stop[question] = v
				trials = append(trials, trial{domain: d, question: question, verdict: v})
			}
		}
	}
	const concurrent = 16
	var group errgroup.Group
	group.SetLimit(concurrent)
	for i := range trials {
		group.Go(func() error {
			begun := time.Now()
			reply, err := ask(t.Context(), p, lab.Question{Map: trials[i].domain.Map,
				Key: trials[i].domain.Fill(trials[i].domain.Key)})
			trials[i].took, trials[i].got = time.Since(begun), reply
			return err
		})
	}
	require.NoError(t, group.Wait())
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
	domain   cases.Domain
	question string
	verdict  lab.Verdict
	got      socketmap.Reply
	took     time.Duration
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
	stop  map[string]lab.Verdict // complete before the questions about those domains are asked
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
