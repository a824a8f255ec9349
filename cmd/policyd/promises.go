package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/text"
)

func newPromises(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promises",
		Short: "Show and forget which domains promised authenticated TLS",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPromisesList(c), newPromisesGet(c), newPromisesForget(c))
	return cmd
}

func newPromisesList(c *common) *cobra.Command {
	a := &asking{common: c}
	var f admin.PromiseFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the domains whose promises are remembered",
		Long: `List the domains to which this machine has sent mail and which promised
authenticated TLS: by an MX prefix, by MTA-STS or by DANE. One line per domain and
kind of promise, with the first and the last day, the number of days, and whether
DNSSEC protected the MX records.

` + exitOfAsking,
		Example: "  policyd promises list --vanished\n  policyd promises list --match example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Limit < 1 || f.Limit > admin.MaxList {
				return fmt.Errorf("--limit must be from 1 to %d", admin.MaxList)
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				list, err := client.Promises(ctx, f)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, list)
				}
				if err := showPromises(cmd.OutOrStdout(), list.Promises); err != nil {
					return err
				}
				if list.More {
					cmd.PrintErrf("policyd: there are more than %d domains: narrow with --match or raise --limit\n", f.Limit)
				}
				return nil
			})
		},
	}
	const listed = 1000
	cmd.Flags().StringVar(&f.Match, "match", "", "only domains that contain this, or that match it if it has one of *?[")
	cmd.Flags().BoolVar(&f.Vanished, "vanished", false, "only domains whose promise is missing now")
	cmd.Flags().IntVar(&f.Limit, "limit", listed, "at most this many domains")
	a.flags(cmd)
	return cmd
}

func newPromisesGet(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show which promises of a domain are remembered",
		Long: `Show which promises of DOMAIN the running daemon remembers.

Exit status: 0, 1 nothing is remembered or the daemon does not answer, 2 usage or
settings.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := domainArgument(args[0])
			if err != nil {
				return err
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				p, err := client.Promise(ctx, domain)
				if refused, ok := errors.AsType[*admin.RefusedError](err); ok && refused.Code == http.StatusNotFound {
					return &exit{exitFailed, refused}
				}
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, p)
				}
				return showPromises(cmd.OutOrStdout(), []admin.Promise{p})
			})
		},
	}
	a.flags(cmd)
	return cmd
}

func newPromisesForget(c *common) *cobra.Command {
	a := &asking{common: c}
	cmd := &cobra.Command{
		Use:   "forget DOMAIN",
		Short: "Forget the promises of a domain, which ends a hold",
		Long: `Make the running daemon forget the promises of DOMAIN. Mail that is held because
a promise vanished is delivered at Postfix's next attempt (postqueue -f).

` + exitOfAsking,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := domainArgument(args[0])
			if err != nil {
				return err
			}
			return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
				f, err := client.Forget(ctx, domain)
				if err != nil {
					return err
				}
				if a.json {
					return encode(cmd, f)
				}
				result := "forgotten"
				if !f.Forgotten {
					result = "nothing was remembered about " + domain
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), result)
				return err
			})
		},
	}
	a.flags(cmd)
	return cmd
}

// showPromises shows one line per domain and kind.
func showPromises(out io.Writer, list []admin.Promise) error {
	var b strings.Builder
	if len(list) > 0 {
		b.WriteString("KIND     FIRST       LAST        DAYS  MX        DOMAIN\n")
	}
	for _, p := range list {
		for _, s := range p.Seen {
			mx := "unsigned"
			if s.Signed {
				mx = "signed"
			}
			fmt.Fprintf(&b, "%-7s  %-10s  %-10s  %4d  %-8s  %s\n", text.Printable(s.Kind), text.Printable(s.First), text.Printable(s.Last), s.Days, mx, text.Printable(p.Domain))
		}
		if !p.MissingSince.IsZero() {
			b.WriteString("  ! missing from unsigned answers since " + p.MissingSince.Format(time.DateTime) + "\n")
		}
		if !p.HeldUntil.IsZero() {
			b.WriteString("  ! mail is held until " + p.HeldUntil.Format(time.DateTime) + "; \"policyd promises forget " + text.Printable(p.Domain) + "\" ends that\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// rememberedBy recalls promises from the running daemon, if there is one.
type rememberedBy struct {
	ctx    context.Context
	client *admin.Client
}

// Recall implements policy.Promises. Without a daemon, nothing is remembered.
func (r rememberedBy) Recall(domain string) promises.Memory {
	const wait = time.Second
	ctx, cancel := context.WithTimeout(r.ctx, wait)
	defer cancel()
	p, err := r.client.Promise(ctx, domain)
	if err != nil {
		return promises.Memory{}
	}
	m := promises.Memory{Holdable: p.MayHold, Until: p.HeldUntil}
	for _, s := range p.Seen {
		last, err := time.Parse(time.DateOnly, s.Last)
		if err != nil || !s.Established {
			continue
		}
		m.Kinds = append(m.Kinds, promises.Kind(s.Kind))
		m.Days, m.Last = max(m.Days, s.Days), max(m.Last, promises.DayOf(last))
	}
	return m
}

// Observe implements policy.Promises: a query is not mail.
func (rememberedBy) Observe(string, promises.Answer) {}

func newFleet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Make the key that the nodes of a site share",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "key",
		Short: "Print a new random site key",
		Long: `Print a new random key for the setting fleet.key_file. Every node of the site needs
the same key; anyone who has it can add promises and policies to those that the
nodes share. To change the key, move the old file to fleet.previous_key_file on every
node, and remove it there a day later.`,
		Example: "  (umask 027; policyd fleet key >/etc/policyd/fleet.key)\n  chgrp policyd /etc/policyd/fleet.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), fleet.NewKey().Text())
			return err
		},
	})
	return cmd
}
