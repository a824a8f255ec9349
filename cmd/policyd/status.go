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
		Short: "Show the state of the running daemon",
		Long: `Show the version of the running daemon, its settings, the resolver and its
self-test, counters of lookups, DNS queries and connections, the cache, MTA-STS
policies, probes, the last reload, and warnings.

Exit status: 0 the daemon runs, 1 it does not or its socket may not be used, 2 usage
or settings.`,
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
