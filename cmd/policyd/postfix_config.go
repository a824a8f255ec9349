package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
)

func newPostfixConfig(c *common) *cobra.Command {
	var asJSON, commands, remove bool
	var version, instance string
	cmd := &cobra.Command{
		Use:   "postfix-config",
		Short: "Print the configuration that Postfix needs",
		Long: `Print the lines for main.cf and master.cf: for the installed version of Postfix,
the socket that policyd listens on, and the domains that this site receives.
Existing tables in smtp_tls_policy_maps and transport_maps are kept. policyd
itself changes nothing.

With --commands, print the shell commands that make these changes where the
installed configuration differs, and nothing where it does not, so that you can
safely run this twice:

  policyd postfix-config --commands | sh && postfix reload

With --remove, print the commands that remove policyd again. Run them and
reload Postfix before you stop policyd: a map that does not answer defers mail.

With --json, print parameters and values for tools such as Ansible, and the same
commands.

Exit status: 0, 1 no Postfix is installed or it is too old, 2 usage or settings.`,
		Example: "  policyd postfix-config\n  policyd postfix-config --commands\n  policyd postfix-config --remove\n  policyd postfix-config --postfix-version 3.10",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := c.load(cmd)
			if err != nil {
				return failed(err)
			}
			if err := doctor.CheckVersion(version); err != nil {
				return &exit{exitUsage, err}
			}
			o := doctor.Options{Settings: loaded, Version: version, ConfigDirectory: instance}
			out := cmd.OutOrStdout()
			if remove {
				removal, err := doctor.Remove(cmd.Context(), o)
				switch {
				case err != nil:
				case asJSON:
					err = encodeIndented(out, removal)
				default:
					err = writeRemoval(out, removal)
				}
				return failed(err)
			}
			lines, err := doctor.MakeLines(cmd.Context(), o)
			switch {
			case err != nil:
			case asJSON:
				err = encodeIndented(out, lines)
			case commands:
				for _, c := range lines.Commands {
					if err == nil {
						_, err = fmt.Fprintln(out, c)
					}
				}
			default:
				err = writeLines(out, lines)
			}
			return failed(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&commands, "commands", false, "print the shell commands for what differs from the installed configuration")
	cmd.Flags().BoolVar(&remove, "remove", false, "print the shell commands that remove policyd from the configuration")
	cmd.Flags().StringVar(&version, "postfix-version", "", "print the lines for this `version` of Postfix (default: the installed one)")
	cmd.Flags().StringVar(&instance, "postfix-dir", "", "configuration `directory` of Postfix (default: that of postconf)")
	cmd.MarkFlagsMutuallyExclusive("commands", "remove", "postfix-version")
	_ = cmd.MarkFlagDirname("postfix-dir") // fails only for an unknown flag
	return cmd
}

// encodeIndented writes v as indented JSON.
func encodeIndented[T any](w io.Writer, v T) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// writeLines writes one part for each file, with instructions in comments.
func writeLines(w io.Writer, l doctor.Lines) error {
	var b strings.Builder
	part := func(file, what string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "# %s/%s, %s\n%s\n\n", l.Directory, file, what, strings.Join(lines, "\n"))
		}
	}
	part("main.cf", "for Postfix "+l.Postfix+": add at the end", l.Main)
	part("master.cf", "add at the end", l.Master)
	part("transport_own", "a new file: one line per domain of this site", l.Own)
	b.WriteString("# then: postfix check && postfix reload && policyd doctor\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeRemoval writes the commands, and what they leave, in comments.
func writeRemoval(w io.Writer, r doctor.Removal) error {
	var b strings.Builder
	for _, h := range r.Hidden {
		b.WriteString("# edit by hand: " + h + "\n")
	}
	if len(r.Commands) > 0 {
		b.WriteString(strings.Join(r.Commands, "\n") + "\n# then: postfix check && postfix reload, and only after that: systemctl stop policyd.socket policyd\n")
		b.WriteString("# kept, useful without policyd too: " + strings.Join(r.Kept, "; ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
