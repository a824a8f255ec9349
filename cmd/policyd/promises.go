package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/text"
)

func newPromises(c *common) *cobra.Command {
	var f admin.Filter
	var asked, forgotten admin.DomainRequest
	list := listCommand(c, &cobra.Command{
		Use:   "list",
		Short: "List the domains whose promises are remembered",
		Long: `List the domains to which this machine has sent mail and which promised authenticated TLS: by an MX
prefix, by MTA-STS or by DANE. One line per domain and kind of promise, with the first and the last day, the number of
days, and whether DNSSEC protected the MX records.`,
		Example: "  policyd promises list --vanished\n  policyd promises list --match example.com",
	}, "domains", admin.ListPromises, &f, (*screen).promises)
	list.Flags().BoolVar(&f.Vanished, "vanished", false, "only domains whose promise is missing now")
	get := showCommand(c, &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show which promises of a domain are remembered",
		Long: `Show which promises of DOMAIN the running daemon remembers.

Exit status: 0, 1 nothing is remembered or the daemon does not answer, 2 usage or settings.`,
		Args: oneDomain(&asked.Domain),
	}, admin.GetPromise, &asked, func(s *screen, p promises.Entry) {
		s.promises(admin.PromiseList{Promises: []promises.Entry{p}})
	})
	forget := showCommand(c, &cobra.Command{
		Use:   "forget DOMAIN",
		Short: "Forget the promises of a domain, which ends a hold",
		Long: `Make the running daemon forget the promises of DOMAIN. Mail that is held because a promise vanished is
delivered at Postfix's next attempt (postqueue -f).`,
		Args: oneDomain(&forgotten.Domain),
	}, admin.ForgetPromise, &forgotten, func(s *screen, f admin.Forgotten) {
		s.linef("%s", text.Either(f.Forgotten, "forgotten", "nothing was remembered about "+forgotten.Domain))
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
				text.Either(seen.Signed, "signed", "unsigned"), p.Domain)))
		}
		if !p.Missing.IsZero() {
			s.linef("  ! missing from unsigned answers since %s", p.Missing.Format(time.DateTime))
		}
		if !p.Until.IsZero() {
			s.linef("  ! mail is held until %s; \"policyd promises forget %s\" ends that",
				p.Until.Format(time.DateTime), text.Printable(p.Domain))
		}
	}
	s.listed(len(list.Promises), list.More, "domains")
}

// remembered returns what the daemon at a socket remembers about the promises of a domain, or nothing if none answers.
func remembered(ctx context.Context, socket string, domain string) promises.History {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	p, err := admin.GetPromise.Ask(ctx, socket, admin.DomainRequest{Domain: domain})
	if err != nil {
		return promises.History{}
	}
	h := p.History
	for _, s := range p.Seen {
		if s.Established {
			h.Kinds, h.Days, h.Last = append(h.Kinds, s.Kind), max(h.Days, int(s.Days)), max(h.Last, s.Last)
		}
	}
	return h
}
