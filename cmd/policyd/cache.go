package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/text"
)

func newCache(c *common) *cobra.Command {
	var f admin.Filter
	var asked admin.DomainRequest
	list := listCommand(c, &cobra.Command{
		Use:   "list",
		Short: "List the DNS answers in the cache",
		Long: `List the DNS answers and failures in the cache of the running daemon: one line per name and type, with
the security status and the time until it expires. On a terminal, long lines are cut.`,
		Example: "  policyd cache list --match example.com\n  policyd cache list --match '_25._tcp.*' --limit 20",
	}, "entries", admin.ListCache, &f, func(s *screen, list admin.CacheList) {
		s.entries(list.Entries)
		s.listed(len(list.Entries), list.More, "entries")
	})
	get := showCommand(c, &cobra.Command{
		Use:   "get DOMAIN",
		Short: "Show all that the running daemon has about a domain",
		Long: `Show what the running daemon has about DOMAIN, without any new lookup: the DNS answers for it, for the
names below it and for its MX hosts, the stored MTA-STS policy, and the probe results.`,
		Args: oneDomain(&asked.Domain),
	}, admin.GetDomain, &asked, (*screen).domain)
	return group("cache", "Show and flush the cache of the running daemon", list, get, newCacheFlush(c))
}

func newCacheFlush(c *common) *cobra.Command {
	var f admin.FlushRequest
	cmd := showCommand(c, &cobra.Command{
		Use:   "flush DOMAIN | --all",
		Short: "Remove DNS answers from the cache",
		Long: `Remove the DNS answers and failures for DOMAIN, for the names below it and for its MX hosts from the
cache of the running daemon, or all of them. The MTA-STS policy of DOMAIN is kept unless --sts is given: once it is
removed, an attacker who suppresses the TXT record of the domain can keep policyd from finding a policy.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.All && len(args) > 0, !f.All && len(args) == 0:
				return errors.New("give either a domain or --all")
			case f.All:
				return nil
			}
			return oneDomain(&f.Domain)(cmd, args)
		},
	}, admin.FlushCache, &f, func(s *screen, flushed admin.Flushed) {
		s.linef("flushed: %d DNS entries, %d MTA-STS policies", flushed.Cache, flushed.Policies)
	})
	cmd.Flags().BoolVar(&f.All, "all", false, "remove all DNS answers and failures")
	cmd.Flags().BoolVar(&f.STS, "sts", false, "remove the MTA-STS policy of DOMAIN too")
	cmd.MarkFlagsMutuallyExclusive("all", "sts")
	return cmd
}

// entries shows a line per entry, cut to the width of the terminal. Names come late, and a long one moves only its own
// records to the right.
func (s *screen) entries(entries []dnscache.Entry) {
	column := len("NAME")
	for _, e := range entries {
		column = max(column, len(e.Name))
	}
	if s.width > 0 {
		column = min(column, s.width*2/5) // on a terminal the records need room too
	}
	line := func(kind, status, left, name, records string) {
		words := strings.TrimRight(fmt.Sprintf("%-4s  %-8s  %6s  %-*s  %s", kind, status, left, column,
			text.Printable(name), text.Printable(records)), " ")
		if s.width > 0 && len(words) > s.width {
			words = words[:s.width-1] + ">"
		}
		s.linef("%s", words)
	}
	if len(entries) > 0 {
		line("TYPE", "STATUS", "LEFT", "NAME", "RECORDS")
	}
	for _, e := range entries {
		status, left, end := e.Status.String(), "stale", e.Expires
		records := cmp.Or(strings.Join(e.Data, "; "), e.Denial)
		switch {
		case e.Expires.IsZero():
			status, left, end, records = "failed", "-", e.Retry, e.Failure
		case e.Failure != "":
			records += " (since then: " + e.Failure + ")"
		}
		if more := time.Until(end); more > 0 {
			left = span(more)
		}
		line(e.Type.String(), status, left, cmp.Or(e.Name, "."), records)
	}
}

func (s *screen) domain(d status.Domain) {
	s.label, s.width = queryLabel, 0
	s.title(d.Domain)
	s.linef("")
	if len(d.Cache) == 0 {
		s.row("DNS", "nothing is cached")
	}
	s.entries(d.Cache)
	s.linef("")
	p := d.MTASTS
	if p == nil {
		s.row("MTA-STS", "nothing is stored")
	}
	if p != nil && p.Mode != "" {
		s.row("MTA-STS", "mode %s, id %s, mx %s; fetched %s ago, %s left", p.Mode, p.ID, strings.Join(p.MX, " "),
			ago(p.Fetched), span(time.Until(p.Expires)))
	}
	if p != nil && p.Reason != "" {
		s.row("MTA-STS", "the last fetch failed: %s; tried again after %s", p.Reason, span(time.Until(p.Retry)))
	}
	if len(d.Probes) == 0 {
		s.row("probes", "nothing is known")
	}
	for i, p := range d.Probes {
		s.row(wordsIf(i == 0, "probes"), "%s %s%s%s%s", p.Host, p.State, part(": ", p.Cause),
			part(", ", event("probed", p.Checked)), part("; ", p.Why))
	}
}
