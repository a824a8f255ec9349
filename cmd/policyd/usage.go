package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/policyd/policyd/internal/text"
)

// usageMistake rewords a message of the command line parser and adds what to write instead.
func usageMistake(cmd *cobra.Command, message string) string {
	if cmd.Name() == "help" {
		cmd, _, _ = cmd.Root().Find(cmd.Flags().Args()) // the command whose help was asked for
	}
	if flags, exclusive := strings.CutPrefix(message, "if any flags in the group ["); exclusive {
		flags, _, _ = strings.Cut(flags, "]")
		message = "use only one of --" + strings.ReplaceAll(flags, " ", ", --")
	}
	if strings.Contains(message, "arg(s)") {
		message = "wrong number of arguments: write " + cmd.UseLine()
	}
	if !cmd.HasSubCommands() {
		message = strings.Replace(message, "unknown command", "unexpected argument", 1)
	}
	return message + suggestion(cmd, message)
}

// suggestion returns what was probably meant by an unknown command or flag, or by an argument that is one of a few
// words.
func suggestion(cmd *cobra.Command, message string) string {
	names := slices.Clone(cmd.ValidArgs)
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	word := strings.Split(message+`""`, `"`)[1]
	if flag, unknown := strings.CutPrefix(message, "unknown flag: "); unknown {
		word = flag
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	}
	switch near := text.Nearest(word, names); {
	case near != "" && near != word:
		return ": did you mean " + near + "?"
	case len(names) > 0 && !strings.Contains(message, "flag"):
		return ": use one of " + strings.Join(names, ", ")
	}
	return ""
}
