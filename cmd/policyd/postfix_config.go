package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
)

func newPostfixConfig(c *common) *cobra.Command {
	var commands, remove bool
	o := doctor.Options{}
	cmd := printsJSON(&cobra.Command{
		Use:   "postfix-config",
		Short: "Print the configuration that Postfix needs",
		Long: `Print the lines for main.cf and master.cf: for the installed version of Postfix, the socket that policyd
listens on, and the domains that this site receives. Existing tables are kept. policyd itself changes nothing.

With --commands, print the shell commands for what differs from the installed configuration, so that you can safely run
this twice:

  policyd postfix-config --commands | sh && postfix reload

With --remove, print the commands that remove policyd again. Run them and reload Postfix before you stop policyd: a map
that does not answer defers mail.

Exit status: 0, 1 no Postfix is installed or it is too old, 2 usage or settings.`,
		Example: "  policyd postfix-config\n  policyd postfix-config --commands\n  policyd postfix-config " +
			"--remove\n  policyd postfix-config --postfix-version 3.10",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Settings, err = c.load(cmd); err != nil && (!remove || o.Settings == nil) {
				return failed(err)
			}
			if err != nil { // the way back must not depend on them
				cmd.PrintErrln("policyd: warning: wrong settings have their defaults\n" + admin.Visible(err.Error()))
			}
			if remove {
				removal, err := doctor.Remove(cmd.Context(), o)
				if err != nil {
					return failed(err)
				}
				return output(cmd, removal, removalText)
			}
			lines, err := doctor.MakeLines(cmd.Context(), o)
			if err != nil {
				return failed(err)
			}
			text := linesText
			if commands {
				text = func(l doctor.Lines) string { return textOf(l.Commands) }
			}
			return output(cmd, lines, text)
		},
	})
	cmd.Flags().BoolVar(&commands, "commands", false,
		"print the shell commands for what differs from the installed configuration")
	cmd.Flags().BoolVar(&remove, "remove", false, "print the shell commands that remove policyd from the configuration")
	cmd.Flags().Var(&o.Version, "postfix-version",
		"print the lines for this `version` of Postfix (default: the installed one)")
	cmd.Flags().StringVar(&o.ConfigDirectory, "postfix-dir", "",
		"configuration `directory` of Postfix (default: that of postconf)")
	cmd.MarkFlagsMutuallyExclusive("commands", "remove", "postfix-version")
	_ = cmd.MarkFlagDirname("postfix-dir") // fails only for an unknown flag
	return cmd
}

// output prints a value as indented JSON with --json, or else as text.
func output[T any](cmd *cobra.Command, v T, text func(T) string) error {
	out := cmd.OutOrStdout()
	if wantsJSON(cmd) {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return failed(e.Encode(v))
	}
	_, err := io.WriteString(out, text(v))
	return failed(err)
}

// textOf returns lines as a text.
func textOf(lines []string) string { return strings.Join(append(slices.Clip(lines), ""), "\n") }

// linesText returns one part for each file, with instructions in comments.
func linesText(l doctor.Lines) string {
	text := ""
	part := func(file, what string, lines []string) {
		if len(lines) > 0 {
			text += fmt.Sprintf("# %s/%s, %s\n%s\n", l.Directory, file, what, textOf(lines))
		}
	}
	part("main.cf", "for Postfix "+l.Postfix+": add at the end", l.Main)
	part("master.cf", "add at the end", l.Master)
	part("transport_own", "a new file: one line per domain of this site", l.Own)
	return text + "# then: postfix check && postfix reload && policyd doctor\n"
}

// removalText returns the commands, and what they leave, in comments.
func removalText(r doctor.Removal) string {
	var lines []string
	for _, h := range r.Hidden {
		lines = append(lines, "# edit by hand: "+h)
	}
	if len(r.Commands) > 0 {
		lines = append(append(lines, r.Commands...),
			"# then: postfix check && postfix reload, and only after that: systemctl stop policyd.socket policyd",
			"# kept, useful without policyd too: "+strings.Join(r.Kept, "; "))
	}
	return textOf(lines)
}
