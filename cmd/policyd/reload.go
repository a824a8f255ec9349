package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

func newReload(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the running daemon read its settings again",
		Long: `Make the running daemon read its settings and overrides again, as SIGHUP does, and
report the result. If they have a mistake, the daemon keeps the previous settings.

Exit status: 0 the new settings are in effect, 1 the daemon does not run or its socket
may not be used, 2 usage, or the new settings have a mistake.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.quiet = true // the daemon reads the same files and reports their mistakes
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				r, err := client.Reload(ctx)
				if refused, ok := errors.AsType[*admin.RefusedError](err); ok && refused.Code == http.StatusUnprocessableEntity {
					return &exit{exitUsage, fmt.Errorf("reload failed; keeping the previous settings:\n%w", refused)}
				}
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, r)
				}
				for _, key := range r.Restart {
					cmd.PrintErrln("policyd: warning: " + key + " takes effect after a restart only")
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "reloaded: the new settings are in effect")
				return err
			})
		},
	}
	a.flags(cmd)
	return cmd
}
