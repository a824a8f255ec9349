package main

import (
	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
)

func newPostfixConfig(c *common) *cobra.Command {
	var commands, remove bool
	o := doctor.Options{}
	cmd := withJSONFlag(&cobra.Command{
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
		Example: "  policyd postfix-config\n  policyd postfix-config --commands\n  policyd postfix-config --remove",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remove {
				return showRemoval(c, cmd, o)
			}
			l, err := c.load(cmd)
			if err != nil {
				return err
			}
			o.Settings = l
			lines, err := doctor.MakeLines(cmd.Context(), o)
			if err != nil {
				return err
			}
			if commands {
				return show(cmd, lines, func(s *screen, l doctor.Lines) { s.lines(l.Commands) })
			}
			return show(cmd, lines, (*screen).postfixLines)
		},
	})
	cmd.Flags().BoolVar(&commands, "commands", false,
		"print the shell commands for what differs from the installed configuration")
	cmd.Flags().BoolVar(&remove, "remove", false, "print the shell commands that remove policyd from the configuration")
	cmd.Flags().StringVar(&o.ConfigDirectory, "postfix-dir", "",
		"configuration `directory` of Postfix (default: the one that postconf uses)")
	_ = cmd.MarkFlagDirname("postfix-dir") // fails only for an unknown flag
	cmd.MarkFlagsMutuallyExclusive("commands", "remove")
	return cmd
}

// lines writes lines unchanged, because operators copy them.
func (s *screen) lines(lines []string) {
	for _, line := range lines {
		s.linef("%s", line)
	}
}

// postfixLines writes one section for each file, with instructions in comments.
func (s *screen) postfixLines(l doctor.Lines) {
	section := func(file, what string, lines []string) {
		if len(lines) > 0 {
			s.linef("# %s/%s, %s", l.Directory, file, what)
			s.lines(append(lines, ""))
		}
	}
	section("main.cf", "for Postfix "+l.Postfix+": add at the end", l.Main)
	section("master.cf", "add at the end", l.Master)
	section("transport_own", "a new file: one line per domain of this site", l.Own)
	s.linef("# then: postfix check && postfix reload && policyd doctor")
}
