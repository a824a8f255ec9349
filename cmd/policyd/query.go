package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/lookup"
)

// exitNoAnswer is the exit status of query for a failed lookup.
const exitNoAnswer = 3

type queryFlags struct {
	noProbe, live bool
}

func newQuery(c *common) *cobra.Command {
	f := queryFlags{}
	a := &asking{common: c}
	cmd := printsJSON(&cobra.Command{
		Use:   "query DOMAIN...",
		Short: "Show how mail to a domain is sent, and why",
		Long: `Look up each DOMAIN in this process, without a cache, and show in one sentence how mail to it is sent,
then its MX hosts with their promises, the answer of each map byte for byte, and the reasons.

DOMAIN is a domain, or another next hop that Postfix may look up: [host], domain:26, [host]:26. Where port 26 may be
used, the smtps- hosts are probed too.

With --live, ask the running daemon instead: it answers from its own cache and its own probe results.

Exit status: 0 a policy applies, 1 none, 2 usage or settings, 3 the lookup failed; with several domains the worst of 3,
1, 0.`,
		Example: "  policyd query example.com\n  policyd query --json example.com example.net",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no domain: name one or more")
			}
			var mistakes []error
			for _, arg := range args {
				mistakes = append(mistakes, nexthopArgument(arg))
			}
			return errors.Join(mistakes...)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.live:
				return queryLive(cmd, a, args)
			case a.socket != "":
				return errors.New("--socket is for --live only")
			}
			return query(cmd, c, f, args)
		},
	})
	cmd.Flags().BoolVar(&f.noProbe, "no-probe", false, "do not connect to port 26 of smtps- hosts")
	cmd.Flags().BoolVar(&f.live, "live", false, "ask the running daemon")
	a.socketFlag(cmd)
	return cmd
}

// query looks up all domains concurrently.
func query(cmd *cobra.Command, c *common, f queryFlags, args []string) error {
	loaded, err := c.load(cmd)
	if err != nil {
		return failed(err)
	}
	e, err := newEvaluator(cmd.Context(), loaded, f)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = e.close() }() // nothing is on disk
	if terminal(cmd.ErrOrStderr()) {
		e.progress = cmd.ErrOrStderr()
	}
	if e.doubt != "" {
		cmd.PrintErrln("policyd: warning: " + e.doubt)
	}
	found := make([]lookup.Explanation, len(args))
	var group errgroup.Group
	const sideBySide = 8
	group.SetLimit(sideBySide)
	for i, arg := range args {
		group.Go(func() error {
			found[i] = e.explain(cmd.Context(), arg)
			return nil
		})
	}
	_ = group.Wait() // a failure is a part of the explanation
	return showEach(cmd, len(args), func(i int) (lookup.Explanation, error) { return found[i], nil },
		(*screen).explanation)
}

// queryLive asks the running daemon, which evaluates the domains from its cache and its probe results.
func queryLive(cmd *cobra.Command, a *asking, args []string) error {
	err := a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
		return showEach(cmd, len(args), func(i int) (lookup.Explanation, error) {
			return admin.Explain.Ask(ctx, client, admin.Nexthop{Nexthop: args[i]})
		}, (*screen).explanation)
	})
	if e, ok := errors.AsType[*exit](err); ok && e.err != nil && e.status == exitFailed {
		return &exit{exitNoAnswer, e.err} // 1 would say that no policy applies
	}
	return err
}
