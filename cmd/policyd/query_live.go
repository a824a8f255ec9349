package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/lookup"
)

// queryLive has the running daemon evaluate the domains, with what is in its cache and what its probes have found.
func queryLive(cmd *cobra.Command, c *common, f queryFlags, args []string) error {
	a := &asking{common: c}
	err := a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
		return showExplanations(cmd, f, len(args), func(i int) (lookup.Explanation, error) {
			return client.Explain(ctx, domainOf(args[i]))
		})
	})
	if e, ok := errors.AsType[*exit](err); ok && e.err != nil && e.status == exitFailed {
		return &exit{exitNoAnswer, e.err} // 1 would say that no policy applies
	}
	return err
}
