package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

func newPromises(c *common) *cobra.Command {
	return group("promises", "Show and forget which domains promised authenticated TLS", newPromisesList(c), newPromisesGet(c), newPromisesForget(c))
}

func newPromisesList(c *common) *cobra.Command {
	var f admin.Filter
	cmd := lists(&asking{common: c}, &cobra.Command{
		Use:   "list",
		Short: "List the domains whose promises are remembered",
		Long: `List the domains to which this machine has sent mail and which promised
authenticated TLS: by an MX prefix, by MTA-STS or by DANE. One line per domain and
kind of promise, with the first and the last day, the number of days, and whether
DNSSEC protected the MX records.`,
		Example: "  policyd promises list --vanished\n  policyd promises list --match example.com",
	}, "domains", &f, func(ctx context.Context, client *admin.Client, _ []string) (admin.PromiseList, error) {
		return client.Promises(ctx, f)
	}, shower.promises)
	cmd.Flags().BoolVar(&f.Vanished, "vanished", false, "only domains whose promise is missing now")
	return cmd
}

func newPromisesGet(c *common) *cobra.Command {
	return asks(&asking{common: c}, &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show which promises of a domain are remembered",
		Long: `Show which promises of DOMAIN the running daemon remembers.

Exit status: 0, 1 nothing is remembered or the daemon does not answer, 2 usage or
settings.`,
		Args: oneDomain,
	}, func(ctx context.Context, client *admin.Client, args []string) (admin.Promise, error) {
		return client.Promise(ctx, args[0])
	}, func(s shower, p admin.Promise) error {
		return s.promises(admin.PromiseList{Promises: []admin.Promise{p}})
	})
}

func newPromisesForget(c *common) *cobra.Command {
	domain := ""
	return asks(&asking{common: c}, &cobra.Command{
		Use:   "forget DOMAIN",
		Short: "Forget the promises of a domain, which ends a hold",
		Long: `Make the running daemon forget the promises of DOMAIN. Mail that is held because
a promise vanished is delivered at Postfix's next attempt (postqueue -f).`,
		Args: oneDomain,
	}, func(ctx context.Context, client *admin.Client, args []string) (admin.Forgotten, error) {
		domain, _ = domainArgument(args[0]) // checked
		return client.Forget(ctx, domain)
	}, func(s shower, f admin.Forgotten) error {
		if f.Forgotten {
			return s.printf("forgotten\n")
		}
		return s.printf("nothing was remembered about %s\n", domain)
	})
}

// promises shows one line per domain and kind.
func (s shower) promises(list admin.PromiseList) error {
	var b strings.Builder
	if len(list.Promises) > 0 {
		b.WriteString("KIND     FIRST       LAST        DAYS  MX        DOMAIN\n")
	}
	for _, p := range list.Promises {
		for _, seen := range p.Seen {
			mx := "unsigned"
			if seen.Signed {
				mx = "signed"
			}
			fmt.Fprintf(&b, "%-7s  %-10s  %-10s  %4d  %-8s  %s\n", text.Printable(seen.Kind), text.Printable(seen.First), text.Printable(seen.Last), seen.Days, mx, text.Printable(p.Domain))
		}
		if !p.MissingSince.IsZero() {
			b.WriteString("  ! missing from unsigned answers since " + p.MissingSince.Format(time.DateTime) + "\n")
		}
		if !p.HeldUntil.IsZero() {
			b.WriteString("  ! mail is held until " + p.HeldUntil.Format(time.DateTime) + "; \"policyd promises forget " + text.Printable(p.Domain) + "\" ends that\n")
		}
	}
	return s.list(b.String(), list.More, len(list.Promises), "domains")
}
