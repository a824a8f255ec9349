package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

func newLogLevel(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "log-level [debug|info|warn|error]",
		Short: "Show or change the log level of the running daemon",
		Long: `Show the log level of the running daemon, or change it immediately. A reload or a
restart sets it to log.level of the settings again.

Exit status: 0, 1 the daemon does not run or its socket may not be used, 2 usage or
settings.`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: []string{"debug", "info", "warn", "error"},
		RunE: func(cmd *cobra.Command, args []string) error {
			change := func(ctx context.Context, client *admin.Client) (string, error) { return client.Level(ctx) }
			if len(args) == 1 {
				level, err := admin.ParseLevel(args[0])
				if err != nil {
					return err
				}
				change = func(ctx context.Context, client *admin.Client) (string, error) { return client.SetLevel(ctx, level) }
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				level, err := change(ctx, client)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, admin.Level{Level: level})
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), level)
				return err
			})
		},
	}
	a.flags(cmd)
	return cmd
}
