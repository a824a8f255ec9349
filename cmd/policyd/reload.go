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
		Short: "Have the running daemon read its settings again",
		Long: `Have the running daemon read its settings and overrides again, as SIGHUP does, and
say what came of it. If anything in them is bad the old ones stay in force.

Exit status: 0 the new settings are in force, 1 the daemon does not run or may
not be asked, 2 usage, or the new settings are bad.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				r, err := client.Reload(ctx)
				if refused, ok := errors.AsType[*admin.RefusedError](err); ok && refused.Code == http.StatusUnprocessableEntity {
					return &exit{exitUsage, fmt.Errorf("the daemon refused the new settings, the old ones are in force:\n%w", refused)}
				}
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, r)
				}
				for _, key := range r.Restart {
					cmd.PrintErrln("policyd: warning: " + key + " changes with a restart only")
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "reloaded: the new settings are in force")
				return err
			})
		},
	}
	a.flags(cmd)
	return cmd
}
