package check_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/check/report"
)

var update = flag.Bool("update", false, "write the golden files")

// list is the list of codes in policyd-check(1).
func list() string {
	var b strings.Builder
	for _, c := range report.Codes() {
		severity := string(c.Severity)
		if c.Untested {
			severity += ", untested"
		}
		fmt.Fprintf(&b, "**%s** (%s)\n:   %s\n\n", c.Code, severity, c.Meaning)
	}
	return b.String()
}

func TestManualPageHasEveryCode(t *testing.T) {
	t.Parallel()
	const path, before, after = "../../docs/man/policyd-check.1.md", "## Codes\n\n", "# EXIT STATUS\n"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, found := strings.Cut(string(text), before)
	require.True(t, found)
	codes, tail, found := strings.Cut(rest, after)
	require.True(t, found)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(head+before+list()+after+tail), 0o600))
		return
	}
	require.Equal(t, list(), codes, "run the test with -update")
}

func TestCodesAreUsed(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, file := range []string{"check.go", "dns_lookups.go", "connect.go", "finding_rules.go", "hints.go", "findings.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		source.Write(text)
	}
	seen := map[string]bool{}
	for _, c := range report.Codes() {
		require.Regexp(t, `^[a-z0-9]+(-[a-z0-9]+)*$`, c.Code)
		require.False(t, seen[c.Code], c.Code)
		seen[c.Code] = true
		require.Regexp(t, `^[A-Z].*\.$`, c.Meaning)
		// The name of the port precedes the rest.
		name := regexp.MustCompile("^port2[56]-").ReplaceAllString(c.Code, "")
		require.Contains(t, source.String(), `"`+name+`"`)
	}
	for _, found := range regexp.MustCompile(`find\("([^"]+)"`).FindAllStringSubmatch(source.String(), -1) {
		require.True(t, seen[found[1]], "%s is not documented", found[1])
	}
	for _, found := range regexp.MustCompile(`(?m)^\t\t+\{"([a-z0-9-]+)", `).FindAllStringSubmatch(source.String(), -1) {
		require.True(t, seen[found[1]], "%s is not documented", found[1])
	}
	// Codes without the name of the port: where they are put together, and the results of failureCode.
	code := regexp.MustCompile(`(?:port|codes) ?\+ ?"([^"]+)"|smtptls\.Step[A-Za-z]+: "([^"]+)"|\t\treturn "([a-z-]{4,})"`)
	matches := code.FindAllStringSubmatch(source.String(), -1)
	require.Greater(t, len(matches), 15)
	for _, found := range matches {
		found[1] += found[2] + found[3]
		require.True(t, seen["port25-"+found[1]] || seen["port26-"+found[1]], "%s is not documented", found[1])
	}
}
