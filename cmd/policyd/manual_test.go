package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// page is the source of a manual page.
func page(name string) string { return filepath.Join("..", "..", "docs", "man", name+".md") }

// generated compares the part of a manual page between two comments with text; -update rewrites it.
func generated(t *testing.T, name, part, text string) {
	t.Helper()
	begin, end := "<!-- "+part+": go test ./cmd/policyd -update -->\n\n", "<!-- end -->\n"
	source, err := os.ReadFile(page(name))
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(source), begin)
	require.True(t, found, "%s lacks %s", name, begin)
	has, after, found := strings.Cut(rest, end)
	require.True(t, found, "%s lacks %s", name, end)
	if *update {
		require.NoError(t, os.WriteFile(page(name), []byte(before+begin+text+end+after), 0o600))
		return
	}
	require.Equal(t, text, has, "%s is not what the program says: run the test with -update", name)
}

// markdown escapes what has a meaning in Markdown.
func markdown(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`, ">", `\>`, "`", "\\`").Replace(s)
}

// entry is one of a list of terms.
func entry(b *strings.Builder, term, text string) { fmt.Fprintf(b, "%s\n:   %s\n\n", term, text) }

func TestManualHasEverySetting(t *testing.T) {
	var b strings.Builder
	defaults := settings.Default()
	for _, table := range defaults.Tables() {
		if table.Name != "" {
			fmt.Fprintf(&b, "# \\[%s\\]\n\n%s\n\n", table.Name, markdown(table.Doc))
		}
		for _, r := range table.Rows {
			value := strings.TrimPrefix(strings.TrimPrefix(r.Type, "a "), "the ")
			entry(&b, "**"+markdown(r.Key)+"** = *"+markdown(value)+"*", markdown(r.Doc)+" Default: **"+markdown(r.Default())+"**")
		}
	}
	generated(t, "policyd.toml.5", "settings", b.String())
}

func TestManualHasEveryFinding(t *testing.T) {
	var b strings.Builder
	for _, area := range doctor.Areas() {
		b.WriteString("## " + markdown(area.Name) + "\n\n")
		for _, c := range area.Codes {
			entry(&b, "**"+c.Name+"** ("+string(c.Severity)+")", markdown(c.Why))
		}
	}
	generated(t, "policyd-doctor.1", "codes", b.String())
}

// ownPage are the commands with a page of their own.
func ownPage() map[string]bool {
	return map[string]bool{"query": true, "check": true, "doctor": true, "status": true, "cache": true, "report": true, "postfix-config": true}
}

// withBelow returns a command and those below it.
func withBelow(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		all = append(all, withBelow(c)...)
	}
	return all
}

// The C locale has ASCII only: the pages and the help are readable there.
func TestManualAndHelpAreASCII(t *testing.T) {
	t.Parallel()
	ascii := func(where, text string) {
		for i, line := range strings.Split(text, "\n") {
			for _, r := range line {
				require.True(t, r >= ' ' && r <= '~' || r == '\t', "%s:%d: %q in %s", where, i+1, r, line)
			}
		}
	}
	pages, err := filepath.Glob(page("*"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, path := range pages {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		ascii(path, string(source))
	}
	for _, cmd := range withBelow(newRoot()) {
		ascii(cmd.CommandPath(), cmd.Long+"\n"+cmd.UsageString())
	}
}

// Without Args, cobra would accept any arguments and ignore them.
func TestEveryCommandLimitsItsArguments(t *testing.T) {
	for _, cmd := range withBelow(newRoot()) {
		require.NotNil(t, cmd.Args, cmd.CommandPath())
	}
}

func TestManualHasEveryCommand(t *testing.T) {
	var b strings.Builder
	for _, cmd := range newRoot().Commands() {
		describe(&b, cmd)
	}
	generated(t, "policyd.8", "commands", b.String())
}

// describe writes a section for a command and for each of its subcommands.
func describe(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden {
		return
	}
	if below := cmd.Commands(); len(below) > 0 && !ownPage()[cmd.Name()] && cmd.Name() != "completion" { // of cobra, whose help has the rest
		for _, c := range below {
			describe(b, c)
		}
		return
	}
	usage := strings.TrimSuffix(cmd.CommandPath()+strings.TrimPrefix(cmd.Use, cmd.Name()), " [flags]")
	fmt.Fprintf(b, "## %s\n\n", markdown(usage))
	switch {
	case ownPage()[cmd.Name()] && cmd.Parent() == cmd.Root():
		fmt.Fprintf(b, "%s: **policyd-%s**(1).\n\n", markdown(cmd.Short), cmd.Name())
		return
	case cmd.Long != "":
		b.WriteString(markdown(cmd.Long) + "\n\n")
	default:
		b.WriteString(markdown(cmd.Short) + ".\n\n")
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { describeFlag(b, f) })
}

func describeFlag(b *strings.Builder, f *pflag.Flag) {
	if f.Hidden || f.Name == "help" {
		return
	}
	value, text := pflag.UnquoteUsage(f)
	term := "**--" + f.Name + "**"
	if f.Shorthand != "" {
		term = "**-" + f.Shorthand + "**, " + term
	}
	if value != "" {
		term += " *" + strings.ToUpper(value) + "*"
	}
	text = strings.ToUpper(text[:1]) + text[1:] + "."
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
		text += " Default: " + f.DefValue + "."
	}
	entry(b, term, markdown(text))
}

// The page of a command describes its options by hand: it must have every option, and no others.
func TestManualPagesHaveEveryOption(t *testing.T) {
	for name := range ownPage() {
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile(page("policyd-" + name + ".1"))
			require.NoError(t, err)
			documented := map[string]bool{}
			for _, m := range regexp.MustCompile(`(?m)^(?:\*\*-[0-9a-zA-Z]\*\*, )*\*\*--([a-z0-9-]+)\*\*`).FindAllStringSubmatch(string(source), -1) {
				documented[m[1]] = true
			}
			cmd, _, err := newRoot().Find([]string{name})
			require.NoError(t, err)
			for _, c := range withBelow(cmd) {
				c.InheritedFlags() // merges them
				c.Flags().VisitAll(func(f *pflag.Flag) {
					mentioned := strings.Contains(string(source), "**--"+f.Name+"**") && (f.Shorthand == "" || strings.Contains(string(source), "**-"+f.Shorthand+"**"))
					require.True(t, f.Hidden || f.Name == "help" || mentioned, "--%s is missing", f.Name)
					delete(documented, f.Name)
				})
			}
			require.Empty(t, documented, "unknown options")
		})
	}
}
