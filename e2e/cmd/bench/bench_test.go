package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 0)
}

func TestRatios(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"20", "10", "2.00", "40", "0.50"}, ratios([][]float64{{20, 10, 30}, {10, 5, 15}, {40, 20,
		60}}, "%.0f"))
}

// TestEverySection builds policyd and measures everything once.
func TestEverySection(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "bench-") //nolint:usetesting // sockets need short paths
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	build := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "../../../cmd/policyd", ".")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	run := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), "-quick", "-policyd",
		filepath.Join(dir, "policyd"))
	out, err = run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, words := range []string{"cached lookups", "cold lookups", "round trips", "resident memory", "evicts",
		"start to first answer"} {
		require.Contains(t, string(out), words)
	}
}
