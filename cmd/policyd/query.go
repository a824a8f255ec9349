package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/explain"
)

func newQuery(c *common) *cobra.Command {
	var noProbe, live bool
	cmd := withJSONFlag(&cobra.Command{
		Use:   "query DOMAIN...",
		Short: "Show how mail to a domain is sent, and why",
		Long: `Look up each DOMAIN in this process, starting with an empty cache, and show in one sentence how mail to
it is sent, then its MX hosts with their promises, the answer of each map byte for byte, and the reasons. If the daemon
is running, the promises that it remembers count too.

DOMAIN is a domain, or another next hop that Postfix may look up: [host], domain:26, [host]:26. Where port 26 may be
used, the smtps- hosts are probed too.

With --live, ask the running daemon instead: it answers from its own cache and its own probe results.

Exit status: 0 a policy applies, 1 none, 2 usage or settings, 3 the lookup failed, whatever the mode; with several
domains the worst of 3, 1, 0.`,
		Example: "  policyd query example.com\n  policyd query --json example.com example.net",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return errors.New("no domain: name one or more")
			case c.socket != "" && !live:
				return errors.New("--socket is for --live only")
			}
			var mistakes []error
			for _, arg := range args {
				mistakes = append(mistakes, nexthopArgument(arg))
			}
			return errors.Join(mistakes...)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if live {
				return c.queryLive(cmd, args)
			}
			return c.query(cmd, args, noProbe)
		},
	})
	cmd.Flags().BoolVar(&noProbe, "no-probe", false, "do not connect to port 26 of smtps- hosts")
	cmd.Flags().BoolVar(&live, "live", false, "ask the running daemon")
	c.socketFlag(cmd)
	return cmd
}

// query looks up all domains concurrently.
func (c *common) query(cmd *cobra.Command, args []string, noProbe bool) error {
	l, err := c.load(cmd)
	if err != nil {
		return err
	}
	e, err := newEvaluator(cmd, l, noProbe)
	if err != nil {
		return err
	}
	found := make([]explain.Result, len(args))
	concurrently(len(args), func(i int) { found[i] = e.explain(cmd.Context(), args[i]) })
	return showEach(cmd, len(args), func(i int) (explain.Result, error) { return found[i], nil },
		(*screen).explanation)
}

// queryLive asks the running daemon, which evaluates the domains from its cache and its probe results.
func (c *common) queryLive(cmd *cobra.Command, args []string) error {
	socket, err := c.daemon(cmd)
	if err != nil {
		return err
	}
	return showEach(cmd, len(args), func(i int) (explain.Result, error) {
		return admin.Explain.Ask(cmd.Context(), socket, admin.Nexthop{Nexthop: args[i]})
	}, (*screen).explanation)
}
