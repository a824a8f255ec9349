package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/lookup"
)

// queryLive asks the running daemon, which evaluates the domains from its cache and its probe results.
func queryLive(cmd *cobra.Command, a *asking, f queryFlags, args []string) error {
	err := a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
		port := 0
		if !f.json {
			st, err := admin.GetStatus.Ask(ctx, client, admin.None{}) // the daemon may use other settings than this process
			if err != nil {
				return err
			}
			if port, err = portOf(st); err != nil {
				return err
			}
		}
		return showEach(cmd, len(args), func(i int) (lookup.Explanation, error) {
			return admin.Explain.Ask(ctx, client, admin.Nexthop{Nexthop: args[i]})
		}, func(s *screen, x lookup.Explanation) { s.explanation(x, port) })
	})
	if e, ok := errors.AsType[*exit](err); ok && e.err != nil && e.status == exitFailed {
		return &exit{exitNoAnswer, e.err} // 1 would say that no policy applies
	}
	return err
}

// portOf returns the port of implicit TLS that the daemon uses.
func portOf(st admin.Status) (int, error) {
	var inForce settings.Settings
	if err := json.Unmarshal(st.Settings.All, &inForce); err != nil {
		return 0, fmt.Errorf("the daemon's settings cannot be read: %w", err)
	}
	return inForce.Port26.Port, nil
}
