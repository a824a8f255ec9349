//go:build e2e

// Package e2e runs the cases of the end-to-end lab: real Postfix, real unbound, real receivers. Root only.
package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/cases"
	"github.com/policyd/policyd/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Isolated(m.Run)) }

// TestMail runs all cases, one phase after the other.
func TestMail(t *testing.T) {
	const root = ".."
	l, err := lab.New(root+"/bin/policyd", root)
	require.NoError(t, err)
	phases := cases.Build(l)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("policyd's log ends:\n%s", l.Policyd.Log(60))
		}
		l.Close()
	})
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
