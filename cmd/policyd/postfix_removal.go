package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
)

// showRemoval prints the commands that remove policyd from the configuration of Postfix. Mistakes in the settings only
// cause a warning, because they must not prevent the removal.
func showRemoval(c *common, cmd *cobra.Command, o doctor.Options) error {
	l, err := c.load(cmd)
	if err != nil {
		cmd.PrintErrln("policyd: warning: invalid settings keep their defaults\n" + admin.Visible(err.Error()))
	}
	o.Settings = l // invalid settings have their defaults
	removal, err := doctor.Remove(cmd.Context(), o)
	if err != nil {
		return err
	}
	return show(cmd, removal, (*screen).removal)
}

// removal writes the commands, with comments about what remains.
func (s *screen) removal(r doctor.Removal) {
	for _, h := range r.Hidden {
		s.linef("# edit by hand: %s", h)
	}
	s.lines(r.Commands)
	if len(r.Commands) > 0 {
		s.linef("# then: postfix check && postfix reload, and only after that: systemctl stop policyd.socket policyd")
		s.linef("# kept, useful without policyd too: %s", strings.Join(r.Kept, "; "))
	}
}
