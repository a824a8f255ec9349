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
	given, _ := os.Stat(c.config)
	read, _ := os.Stat(st.Settings.File)
	if os.SameFile(given, read) { // false if either cannot be read
		return nil
	}
	note := "the daemon has reloaded " + cmp.Or(st.Settings.File, "no settings file") + "; it does not read " + c.config
	if _, err := c.load(cmd); err != nil {
		return &exit{exitUsage, fmt.Errorf("%s, which has mistakes:\n%s", note, err.Error())}
	}
	cmd.PrintErrln("policyd: warning: " + note)
	return nil
}
