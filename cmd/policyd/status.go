package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

func newStatus(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the running daemon is doing",
		Long: `Ask the running daemon for its version, the settings in force, the resolver and
its self-test, counters of lookups, DNS and connections, the cache, MTA-STS
policies, probes, the last reload, and what an operator should look at.

Exit status: 0 the daemon runs, 1 it does not or may not be asked, 2 usage or
settings.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				st, err := client.Status(ctx)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, st)
				}
				out := cmd.OutOrStdout()
				return shower{out: out, colour: palette(out)}.status(st)
			})
		},
	}
	a.flags(cmd)
	return cmd
}
