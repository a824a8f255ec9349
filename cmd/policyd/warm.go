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
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// maxWarm bounds the domains of one run.
const maxWarm = 1_000_000

// warmed counts what a run has found. Its JSON form is stable.
type warmed struct {
	Domains int `json:"domains"`
	// Policy, None and Failed count the answers: a policy applies, there is none, or the lookup failed. Invalid counts lines
	// that are not domains.
	Policy  int `json:"policy"`
	None    int `json:"none"`
	Failed  int `json:"failed"`
	Invalid int `json:"invalid"`
}

func newWarm(c *common) *cobra.Command {
	w := &warming{}
	perSecond := 20
	cmd := asks(&asking{common: c}, &cobra.Command{
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
			w.limit = rate.NewLimiter(rate.Limit(perSecond), 1)
			w.domains, w.found.Invalid, err = readDomains(cmd.InOrStdin(), args[0])
			if terminal(cmd.ErrOrStderr()) {
				w.progress = func(done int, left time.Duration) {
					cmd.PrintErrf("\r%d of %d domains, about %s left   ", done, len(w.domains), left.Round(time.Second))
					if done == len(w.domains) {
						cmd.PrintErrln()
					}
				}
			}
			return err
		},
	}, func(ctx context.Context, client *admin.Client, _ []string) (warmed, error) {
		w.client, w.found.Domains = client, len(w.domains)
		err := w.all(ctx)
		return w.found, err
	}, func(s shower, f warmed) error {
		return s.printf("%d domains: %d with a policy, %d without, %d failed lookups, %d lines are not domains\n",
			f.Domains, f.Policy, f.None, f.Failed, f.Invalid)
	})
	cmd.Flags().IntVar(&perSecond, "rate", perSecond, "lookups per second")
	return cmd
}

// readDomains returns the domains of a file or of standard input, each once, and the number of lines that are not domains.
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
		domain, err := domainArgument(line[strings.LastIndexByte(line, '@')+1:])
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
	domains  []string
	limit    *rate.Limiter
	progress func(done int, left time.Duration) // nil: not shown

	mu    sync.Mutex
	found warmed
	err   error
}

// all looks up the domains, some of them concurrently. It stops at the first error that is not about one domain.
func (w *warming) all(ctx context.Context) error {
	const concurrent = 8
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan string)
	var workers sync.WaitGroup
	for range concurrent {
		workers.Go(func() {
			for domain := range next {
				if err := w.one(ctx, domain); err != nil {
					w.mu.Lock()
					w.err = errors.Join(w.err, err)
					w.mu.Unlock()
					cancel()
				}
			}
		})
	}
	begun := time.Now()
	for i, domain := range w.domains {
		if w.limit.Wait(ctx) != nil {
			break
		}
		if w.progress != nil && i > 0 {
			w.progress(i, time.Since(begun)/time.Duration(i)*time.Duration(len(w.domains)-i))
		}
		next <- domain
	}
	close(next)
	workers.Wait()
	if w.err == nil && ctx.Err() == nil && w.progress != nil {
		w.progress(len(w.domains), 0)
	}
	return cmp.Or(w.err, ctx.Err())
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
