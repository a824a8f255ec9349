package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

func newCache(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show and flush the cache of the running daemon",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheList(c), newCacheGet(c), newCacheFlush(c))
	return cmd
}

const exitOfAsking = `Exit status: 0, 1 the daemon does not run or its socket may not be used, 2 usage or
settings.`

func newCacheList(c *common) *cobra.Command {
	a := &asking{common: c}
	var f admin.CacheFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the DNS answers in the cache",
		Long: `List the DNS answers and failures in the cache of the running daemon: one line per
name and type, with the security status and the time until it expires. On a terminal,
long lines are cut.

` + exitOfAsking,
		Example: "  policyd cache list --match example.com\n  policyd cache list --match '_25._tcp.*' --limit 20",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Limit < 1 || f.Limit > admin.MaxList {
				return fmt.Errorf("--limit must be from 1 to %d", admin.MaxList)
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				list, err := client.List(ctx, f)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, list)
				}
				out := cmd.OutOrStdout()
				if err := (shower{out: out, colour: palette(out)}).cacheList(list, widthOf(out)); err != nil {
					return err
				}
				if list.More {
					cmd.PrintErrf("policyd: more than %d entries: narrow the list with --match or raise --limit\n", f.Limit)
				}
				return nil
			})
		},
	}
	const listed = 1000
	cmd.Flags().StringVar(&f.Match, "match", "", "only names that contain this `text`, or match it as a pattern if it contains *, ? or [")
	cmd.Flags().IntVar(&f.Limit, "limit", listed, "at most this `number` of entries")
	a.flags(cmd)
	return cmd
}

func newCacheGet(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show all that the running daemon knows about a domain",
		Long: `Show what the running daemon knows about DOMAIN, without any new lookup: the DNS
answers for it, for the names below it and for its MX hosts, the stored MTA-STS
policy, and the probe results.

` + exitOfAsking,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := domainArgument(args[0])
			if err != nil {
				return err
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				known, err := client.Get(ctx, domain)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, known)
				}
				out := cmd.OutOrStdout()
				return shower{out: out, colour: palette(out)}.domain(known)
			})
		},
	}
	a.flags(cmd)
	return cmd
}

func newCacheFlush(c *common) *cobra.Command {
	a := &asking{common: c}
	var f admin.FlushRequest
	cmd := &cobra.Command{
		Use:   "flush DOMAIN | --all",
		Short: "Remove DNS answers from the cache",
		Long: `Remove the DNS answers and failures for DOMAIN, for the names below it and for its MX
hosts from the cache of the running daemon, or all of them: the next lookup queries
the DNS again.

The MTA-STS policy of DOMAIN is kept unless --sts is given. Without a stored policy,
an attacker who suppresses the TXT record of the domain can keep policyd from finding
a policy. Probe results are kept in any case; the daemon renews them.

` + exitOfAsking,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.All == (len(args) == 1) {
				return errors.New("give either a domain or --all")
			}
			if !f.All {
				domain, err := domainArgument(args[0])
				if err != nil {
					return err
				}
				f.Domain = domain
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				flushed, err := client.Flush(ctx, f)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, flushed)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "flushed: %d DNS entries, %d MTA-STS policies\n", flushed.Cache, flushed.Policies)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&f.All, "all", false, "remove all DNS answers and failures")
	cmd.Flags().BoolVar(&f.STS, "sts", false, "remove the MTA-STS policy of DOMAIN too")
	cmd.MarkFlagsMutuallyExclusive("all", "sts")
	a.flags(cmd)
	return cmd
}
