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
		Short: "Show and flush what the running daemon remembers",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheList(c), newCacheGet(c), newCacheFlush(c))
	return cmd
}

const exitOfAsking = `Exit status: 0, 1 the daemon does not run or may not be asked, 2 usage or
settings.`

func newCacheList(c *common) *cobra.Command {
	a := &asking{common: c}
	var f admin.CacheFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the DNS answers in the cache",
		Long: `List the DNS answers and failures in the cache of the running daemon, by name and
type: a line each, with the security status and the time until it expires. On a
terminal long lines are cut.

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
					cmd.PrintErrf("policyd: there are more than %d entries: narrow with --match or raise --limit\n", f.Limit)
				}
				return nil
			})
		},
	}
	const listed = 1000
	cmd.Flags().StringVar(&f.Match, "match", "", "only names that contain this, or that match it if it has one of *?[")
	cmd.Flags().IntVar(&f.Limit, "limit", listed, "at most this many")
	a.flags(cmd)
	return cmd
}

func newCacheGet(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show everything that is known about a domain",
		Long: `Show what the running daemon knows about DOMAIN without asking anybody: the DNS
answers for it, for the names below it and for its MX hosts, the stored MTA-STS
policy, and the results of probes.

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
		Short: "Forget DNS answers, so that they are asked for again",
		Long: `Have the running daemon forget the DNS answers and failures for DOMAIN, for the
names below it and for its MX hosts, or all there are: the next lookup asks again.

The MTA-STS policy of DOMAIN stays unless --sts is given. Until a policy is
fetched again nothing protects the domain from an attacker who suppresses its TXT
record. The results of probes stay in any case: they are renewed by themselves.

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
	cmd.Flags().BoolVar(&f.All, "all", false, "all DNS answers and failures")
	cmd.Flags().BoolVar(&f.STS, "sts", false, "the MTA-STS policy of DOMAIN too")
	cmd.MarkFlagsMutuallyExclusive("all", "sts")
	a.flags(cmd)
	return cmd
}
