package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden file")

// TestMain is the command itself in the processes that the tests start.
func TestMain(m *testing.M) {
	if binary := os.Getenv("DEMO_OF"); binary != "" {
		os.Args = []string{"demo", "-policyd", binary}
		main()
		return
	}
	os.Exit(m.Run())
}

// build builds policyd as make does.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "policyd")
	command := exec.Command("go", "build", "-o", binary, "github.com/policyd/policyd/cmd/policyd")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := command.CombinedOutput()
	require.NoError(t, err, string(output))
	return binary
}

func TestDemo(t *testing.T) {
	binary := build(t)
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	nothingLeft := func(t *testing.T) {
		t.Helper()
		left, err := os.ReadDir(scratch)
		require.NoError(t, err)
		require.Empty(t, left)
	}

	t.Run("every answer is the expected one, and the page is as it was", func(t *testing.T) {
		const golden = "testdata/demo.golden"
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), binary, domains(), page{to: &out}))
		nothingLeft(t)
		for line := range strings.Lines(out.String()) {
			require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), width, line)
		}
		if *update {
			require.NoError(t, os.WriteFile(golden, out.Bytes(), 0o600))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(string(want), out.String()), "go test -update writes it")
	})

	t.Run("one answer that is not the expected one is an error", func(t *testing.T) {
		of := domains()
		of[0].policy = "OK encrypt"
		var out bytes.Buffer
		err := run(t.Context(), binary, of, page{to: &out})
		require.ErrorContains(t, err, "1 of 17 answers are not the expected ones")
		require.Contains(t, out.String(), "expected: OK encrypt")
		nothingLeft(t)
	})

	t.Run("a reader that stops early leaves nothing behind", func(t *testing.T) {
		self, err := os.Executable()
		require.NoError(t, err)
		command := exec.Command(self)
		command.Env = append(os.Environ(), "DEMO_OF="+binary)
		read, write, err := os.Pipe()
		require.NoError(t, err)
		command.Stdout = write
		require.NoError(t, command.Start())
		require.NoError(t, write.Close())
		require.NoError(t, read.Close())
		require.NoError(t, command.Wait())
		nothingLeft(t)
	})

	t.Run("a policyd that does not start is an error", func(t *testing.T) {
		err := run(t.Context(), "/bin/false", domains(), page{to: &bytes.Buffer{}})
		require.ErrorContains(t, err, "/bin/false ended")
		nothingLeft(t)
	})
}
