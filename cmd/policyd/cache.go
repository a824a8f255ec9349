package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

func newCache(c *common) *cobra.Command {
	var f admin.Filter
	list := lists(c, &cobra.Command{
		Use:   "list",
		Short: "List the DNS answers in the cache",
		Long: `List the DNS answers and failures in the cache of the running daemon: one line per name and type, with
the security status and the time until it expires. On a terminal, long lines are cut.`,
		Example: "  policyd cache list --match example.com\n  policyd cache list --match '_25._tcp.*' --limit 20",
	}, "entries", &f, (*admin.Client).List, (*screen).cacheList)
	get := asks(&asking{common: c}, &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show all that the running daemon knows about a domain",
		Long: `Show what the running daemon knows about DOMAIN, without any new lookup: the DNS answers for it, for the
names below it and for its MX hosts, the stored MTA-STS policy, and the probe results.`,
		Args: oneDomain,
	}, func(ctx context.Context, client *admin.Client, args []string) (admin.Domain, error) {
		return client.Get(ctx, args[0])
	}, (*screen).domain)
	return group("cache", "Show and flush the cache of the running daemon", list, get, newCacheFlush(c))
}

func newCacheFlush(c *common) *cobra.Command {
	var f admin.FlushRequest
	cmd := asks(&asking{common: c}, &cobra.Command{
		Use:   "flush DOMAIN | --all",
		Short: "Remove DNS answers from the cache",
		Long: `Remove the DNS answers and failures for DOMAIN, for the names below it and for its MX hosts from the
cache of the running daemon, or all of them. The MTA-STS policy of DOMAIN is kept unless --sts is given: without it, an
attacker who suppresses the TXT record of the domain can keep policyd from finding a policy.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.All == (len(args) > 0):
				return errors.New("give either a domain or --all")
			case f.All:
				return nil
			}
			f.Domain = args[0]
			return oneDomain(cmd, args)
		},
	}, func(ctx context.Context, client *admin.Client, _ []string) (admin.Flushed, error) {
		return client.Flush(ctx, f)
	}, func(s *screen, flushed admin.Flushed) {
		s.linef("flushed: %d DNS entries, %d MTA-STS policies", flushed.Cache, flushed.Policies)
	})
	cmd.Flags().BoolVar(&f.All, "all", false, "remove all DNS answers and failures")
	cmd.Flags().BoolVar(&f.STS, "sts", false, "remove the MTA-STS policy of DOMAIN too")
	cmd.MarkFlagsMutuallyExclusive("all", "sts")
	return cmd
}
