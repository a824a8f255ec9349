package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/check/bulk"
)

// maxWarm bounds the domains of one run.
const maxWarm = 1_000_000

// warmed counts what a run has found. Its JSON form is stable.
type warmed struct {
	Domains int `json:"domains"`
	// Policy, None and Failed count the answers: a policy applies, there is none, or the lookup failed. Invalid counts
	// lines that are not domains.
	Policy  int `json:"policy"`
	None    int `json:"none"`
	Failed  int `json:"failed"`
	Invalid int `json:"invalid"`
}

func newWarm(c *common) *cobra.Command {
	var domains []string
	var found warmed
	perSecond := 20
	var cmd *cobra.Command
	cmd = asks(&asking{common: c}, &cobra.Command{
		Use:   "warm FILE|-",
		Short: "Look up domains before the first mail to them",
		Long: `Make the running daemon look up each domain in FILE, or on standard input, as for
mail to it: it fetches MTA-STS policies and remembers promises, so that the first
mail is protected too. One domain or address per line; # begins a comment. The
rate is bounded, and a terminal shows the progress.`,
		Example: "  policyd warm /etc/policyd/partners\n  postqueue -j | jq -r .recipients[].address | policyd warm -",
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, args []string) (err error) {
			if perSecond < 1 || perSecond > 1000 {
				return errors.New("--rate must be from 1 to 1000")
			}
			domains, found.Invalid, err = readDomains(cmd.InOrStdin(), args[0])
			found.Domains = len(domains)
			return err
		},
	}, func(ctx context.Context, client *admin.Client, _ []string) (warmed, error) {
		w := &warming{client: client, limit: rate.NewLimiter(rate.Limit(perSecond), 1), found: found}
		if out := cmd.ErrOrStderr(); terminal(out) {
			w.progress.Out, w.progress.Terminal = out, true
		}
		err := w.all(ctx, domains)
		return w.found, err
	}, func(s *screen, f warmed) {
		s.linef("%d domains: %d with a policy, %d without, %d failed lookups, %d lines are not domains",
			f.Domains, f.Policy, f.None, f.Failed, f.Invalid)
	})
	cmd.Flags().IntVar(&perSecond, "rate", perSecond, "lookups per second")
	return cmd
}

// readDomains returns the domains of a file or of standard input, each once, and the number of lines that are not
// domains.
func readDomains(stdin io.Reader, path string) (domains []string, invalid int, err error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, &exit{exitUsage, err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	known := map[string]bool{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		domain, err := domainArgument(admin.DomainOf(line))
		switch {
		case err != nil:
			invalid++
		case !known[domain]:
			known[domain] = true
			domains = append(domains, domain)
		}
		if len(domains) > maxWarm {
			return nil, 0, fmt.Errorf("more than %d domains: split the file", maxWarm)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return domains, invalid, nil
}

// warming is a run.
type warming struct {
	client   *admin.Client
	limit    *rate.Limiter
	progress bulk.Progress

	mu    sync.Mutex
	found warmed
}

// all looks up the domains, some of them concurrently. It stops at the first error that is not about one domain.
func (w *warming) all(ctx context.Context, domains []string) error {
	w.progress.Total.Store(int64(len(domains)))
	w.progress.Complete.Store(true)
	defer w.progress.Start()()
	group, running := errgroup.WithContext(ctx)
	const concurrent = 8
	group.SetLimit(concurrent)
	for _, domain := range domains {
		if w.limit.Wait(running) != nil {
			break
		}
		group.Go(func() error { return w.one(running, domain) })
	}
	return cmp.Or(group.Wait(), ctx.Err())
}

// one looks up a domain. A daemon that has too much to do is asked again.
func (w *warming) one(ctx context.Context, domain string) error {
	for {
		r, err := w.client.Warm(ctx, domain)
		if refused, ok := errors.AsType[*admin.RefusedError](err); ok && refused.Code == http.StatusServiceUnavailable {
			if err := w.limit.Wait(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		w.progress.Done.Add(1)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch r.Status {
		case "OK":
			w.found.Policy++
		case "NOTFOUND":
			w.found.None++
		default:
			w.found.Failed++
		}
		return nil
	}
}
