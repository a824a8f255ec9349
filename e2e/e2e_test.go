//go:build e2e

// Package e2e runs the cases of the end-to-end lab: real Postfix, real unbound, real receivers. Root only.
package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Tests(m)) }

// The top of the source tree, and what e2e/fetch has unpacked there.
const (
	source = ".."
	// A test checks a condition at every tick, and fails if the condition is still false after longest.
	longest = time.Minute
	tick    = 20 * time.Millisecond

	postfix310 = source + "/bin/postfix310/root"
)

// TestMail runs all cases with the installed Postfix.
func TestMail(t *testing.T) {
	l := newLab(t, lab.Options{})
	run(t, l, cases.Build(l))
}

// TestPostfix310 runs the cases that depend on the answers of policyd with Postfix 3.10, which asks for the attributes of
// TLSRPT too.
func TestPostfix310(t *testing.T) {
	l := newLab(t, lab.Options{System: postfix310, Settings: cases.ReportSettings})
	run(t, l, cases.BuildReports(l))
}

func newLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Policyd, o.Source = source+"/bin/policyd", source
	l, err := lab.New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() && l.Policyd.Process != nil {
			t.Logf("policyd's log ends:\n%s", l.Policyd.Log.Tail(60, ""))
		}
		l.Close()
	})
	return l
}

// run starts the lab and runs all cases, one phase after the other.
func run(t *testing.T, l *lab.Lab, phases []cases.Phase) {
	t.Helper()
	require.NoError(t, l.Start(t.Context()))
	for _, p := range phases {
		require.NoError(t, l.Policyd.SetPort26(t.Context(), p.Port26))
		t.Run(p.Name, func(t *testing.T) {
			for name, result := range p.Run(t.Context()) {
				t.Run(name, func(t *testing.T) {
					require.NoError(t, result.Err, result.Line)
					fmt.Printf("ok   %s\n     %s\n", name, strings.ReplaceAll(result.Line, "\n", "\n     "))
				})
			}
		})
	}
}
