package main

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// readByDaemon warns if the daemon does not read the file of --config, and returns the mistakes of that file.
func (c *common) readByDaemon(cmd *cobra.Command, socket string) error {
	st, err := admin.GetStatus.Ask(cmd.Context(), socket, struct{}{})
	if err != nil {
		return err
	}
	given, err := os.Stat(c.config)
	read, e := os.Stat(st.Settings.File)
	if err == nil && e == nil && os.SameFile(given, read) {
		return nil
	}
	reads := cmp.Or(st.Settings.File, "no settings file")
	if _, err := c.load(cmd); err != nil {
		return &exit{exitUsage, fmt.Errorf("the daemon has reloaded %s; it does not read %s, which has mistakes:\n%s",
			reads, c.config, err.Error())}
	}
	cmd.PrintErrf("policyd: warning: the daemon has reloaded %s; it does not read %s\n", reads, c.config)
	return nil
}
