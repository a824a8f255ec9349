package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/text"
)

func newPromises(c *common) *cobra.Command {
	var f admin.Filter
	list := lists(c, &cobra.Command{
		Use:   "list",
		Short: "List the domains whose promises are remembered",
		Long: `List the domains to which this machine has sent mail and which promised authenticated TLS: by an MX
prefix, by MTA-STS or by DANE. One line per domain and kind of promise, with the first and the last day, the number of
days, and whether DNSSEC protected the MX records.`,
		Example: "  policyd promises list --vanished\n  policyd promises list --match example.com",
	}, "domains", &f, admin.ListPromises, (*screen).promises)
	list.Flags().BoolVar(&f.Vanished, "vanished", false, "only domains whose promise is missing now")
	get := asks(&asking{common: c}, &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show which promises of a domain are remembered",
		Long: `Show which promises of DOMAIN the running daemon remembers.

Exit status: 0, 1 nothing is remembered or the daemon does not answer, 2 usage or settings.`,
		Args: oneDomain,
	}, func(ctx context.Context, client *admin.Client, args []string) (admin.Promise, error) {
		return admin.GetPromise.Ask(ctx, client, admin.DomainRequest{Domain: args[0]})
	}, func(s *screen, p admin.Promise) {
		s.promises(admin.PromiseList{Promises: []admin.Promise{p}})
	})
	domain := ""
	forget := asks(&asking{common: c}, &cobra.Command{
		Use:   "forget DOMAIN",
		Short: "Forget the promises of a domain, which ends a hold",
		Long: `Make the running daemon forget the promises of DOMAIN. Mail that is held because a promise vanished is
delivered at Postfix's next attempt (postqueue -f).`,
		Args: oneDomain,
	}, func(ctx context.Context, client *admin.Client, args []string) (admin.Forgotten, error) {
		domain, _ = domainArgument(args[0]) // checked
		return admin.ForgetPromise.Ask(ctx, client, admin.DomainRequest{Domain: domain})
	}, func(s *screen, f admin.Forgotten) {
		s.linef("%s", either(f.Forgotten, "forgotten", "nothing was remembered about "+domain))
	})
	return group("promises", "Show and forget which domains promised authenticated TLS", list, get, forget)
}

// promises shows one line per domain and kind.
func (s *screen) promises(list admin.PromiseList) {
	const line = "%-7s  %-10s  %-10s  %4v  %-8s  %s"
	if len(list.Promises) > 0 {
		s.linef(line, "KIND", "FIRST", "LAST", "DAYS", "MX", "DOMAIN")
	}
	for _, p := range list.Promises {
		for _, seen := range p.Seen {
			s.linef("%s", text.Printable(fmt.Sprintf(line, seen.Kind, seen.First, seen.Last, seen.Days,
				either(seen.Signed, "signed", "unsigned"), p.Domain)))
		}
		if !p.MissingSince.IsZero() {
			s.linef("  ! missing from unsigned answers since %s", p.MissingSince.Format(time.DateTime))
		}
		if !p.HeldUntil.IsZero() {
			s.linef("  ! mail is held until %s; \"policyd promises forget %s\" ends that",
				p.HeldUntil.Format(time.DateTime), text.Printable(p.Domain))
		}
	}
	s.listed(len(list.Promises), list.More, "domains")
}
