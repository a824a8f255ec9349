package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/check/bulk"
	"github.com/policyd/policyd/internal/policy"
)

// warmed counts what a run has found. Its JSON form is stable.
type warmed struct {
	Domains int `json:"domains"`
	// Policy, None and Failed count the answers, and Invalid the lines that are not domains.
	Policy  int `json:"policy"`
	None    int `json:"none"`
	Failed  int `json:"failed"`
	Invalid int `json:"invalid"`
}

func newWarm(c *common) *cobra.Command {
	var domains []string
	var found warmed
	perSecond := 20
	progress := &bulk.Progress{}
	cmd := askCommand(c, &cobra.Command{
		Use:   "warm FILE|-",
		Short: "Look up domains before the first mail to them",
		Long: `Make the running daemon look up each domain in FILE, or on standard input, as for mail to it: it fetches
MTA-STS policies and remembers promises, so that the first mail is protected too. One domain or address per line; #
begins a comment. The rate is bounded, and a terminal shows the progress.`,
		Example: "  policyd warm /etc/policyd/partners\n  postqueue -j | jq -r .recipients[].address | policyd warm -",
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, args []string) (err error) {
			if perSecond < 1 || perSecond > 1000 {
				return errors.New("--rate must be from 1 to 1000")
			}
			if out := cmd.ErrOrStderr(); terminal(out) {
				progress.Out, progress.Terminal = out, true
			}
			domains, found.Invalid, err = readDomains(cmd, args[0])
			return err
		},
	}, func(cmd *cobra.Command, socket string, _ []string) (warmed, error) {
		counts, err := warm(cmd.Context(), socket, domains, rate.NewLimiter(rate.Limit(perSecond), 1), progress)
		found.Domains, found.Policy, found.None = len(domains), counts["OK"], counts["NOTFOUND"]
		found.Failed = found.Domains - found.Policy - found.None
		return found, err
	}, func(s *screen, f warmed) {
		s.linef("%d domains: %d with a policy, %d without, %d failed lookups, %d lines are not domains",
			f.Domains, f.Policy, f.None, f.Failed, f.Invalid)
	})
	cmd.Flags().IntVar(&perSecond, "rate", perSecond, "lookups per second")
	return cmd
}

// readDomains returns the domains of a file or of standard input, each once, and the number of lines that are not
// domains.
func readDomains(cmd *cobra.Command, path string) (domains []string, invalid int, err error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, &exit{exitUsage, err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	if err := bulk.Lines(in, func(line string) {
		if domain, ok := policy.ParseName(line); ok {
			domains = append(domains, domain)
		} else {
			invalid++
		}
	}); err != nil {
		return nil, 0, &exit{exitUsage, fmt.Errorf("%s: %w", path, err)}
	}
	slices.Sort(domains)
	return slices.Compact(domains), invalid, nil
}

// warm looks up the domains, some of them concurrently, and counts the answers by their status. It stops at the first
// error that is not about one domain. If the daemon is too busy, warm asks again.
func warm(
	ctx context.Context, socket string, domains []string, limit *rate.Limiter, progress *bulk.Progress,
) (map[string]int, error) {
	progress.Total.Store(int64(len(domains)))
	progress.Complete.Store(true)
	defer progress.Start()()
	var mu sync.Mutex
	counts := map[string]int{}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, domain := range domains {
		if limit.Wait(running) != nil {
			break
		}
		group.Go(func() error {
			r, err := admin.Warm.Ask(running, socket, admin.DomainRequest{Domain: domain})
			for isBusy(err) && limit.Wait(running) == nil {
				r, err = admin.Warm.Ask(running, socket, admin.DomainRequest{Domain: domain})
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			counts[r.Status]++
			progress.Done.Add(1)
			return nil
		})
	}
	return counts, cmp.Or(group.Wait(), ctx.Err())
}

func isBusy(err error) bool {
	refused, ok := errors.AsType[*admin.RefusedError](err)
	return ok && refused.Code == http.StatusServiceUnavailable
}
