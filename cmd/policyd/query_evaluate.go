package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
)

// evaluator looks up next hops as the daemon does, with its own resolver and cache.
type evaluator struct {
	engine   gather.Engine
	options  policy.Options
	prober   *probe.Prober // nil if nothing is probed
	progress io.Writer     // shows the steps that take more than a second
}

// newEvaluator warns if no answer can be secure.
func newEvaluator(cmd *cobra.Command, l *settings.Loaded, noProbe bool) (*evaluator, error) {
	quiet := slog.New(slog.DiscardHandler)
	servers, err := stub.New(l.Stub(quiet))
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	l.Cache.StateDir = "" // nothing is kept
	cache, site := dnscache.New(servers, dnscache.Options{Epoch: servers.Epoch}), postfix.New(l.Site(quiet))
	prober := probe.New(l.Probe(cache, site, quiet))
	e := &evaluator{
		engine: gather.Engine{
			Resolver: cache, STS: stsstore.New(l.Store(cache, quiet)), Site: site, Verdict: prober.Verdict,
			History: func(domain string) promises.History { return remembered(cmd.Context(), l.Admin.Socket, domain) },
		},
		options: l.Lookup().Policy, progress: io.Discard,
	}
	if terminal(cmd.ErrOrStderr()) {
		e.progress = cmd.ErrOrStderr()
	}
	if !noProbe {
		e.prober = prober
	}
	if e.options.Mode == policy.ModeOff {
		return e, nil // sends no DNS query
	}
	servers.SelfTest(cmd.Context())
	if st := servers.State(); st.Result != stub.Validating {
		cmd.PrintErrf("policyd: warning: no answer can be secure: self-test of the resolver (%s): %s: %s\n",
			strings.Join(st.Servers, ", "), st.Result, st.Reason)
	}
	return e, nil
}

// explain looks up one next hop. If probes of its hosts matter, it probes them and looks the next hop up again with the
// results, because a lookup itself never waits for a probe.
func (e *evaluator) explain(ctx context.Context, key string) explain.Result {
	defer e.begin("looking up " + text.Printable(key)).Stop()
	x := explain.Nexthop(ctx, &e.engine, key, e.options)
	hosts := slices.DeleteFunc(slices.Clone(x.MX), func(h explain.MXHost) bool { return h.Probe == "" })
	if len(hosts) == 0 || e.prober == nil {
		return x
	}
	concurrently(len(hosts), func(i int) {
		defer e.begin("probing " + text.Printable(hosts[i].Host)).Stop()
		_ = e.prober.Probe(ctx, hosts[i].Host) // it keeps the verdict, which may be a failure
	})
	return explain.Nexthop(ctx, &e.engine, key, e.options)
}

// concurrently calls f with 0 to n-1, at most eight at a time.
func concurrently(n int, f func(i int)) {
	var group errgroup.Group
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error {
			f(i)
			return nil
		})
	}
	_ = group.Wait() // no error
}

// begin begins a step, which is shown unless the timer is stopped within a second.
func (e *evaluator) begin(step string) *time.Timer {
	return time.AfterFunc(time.Second, func() {
		_, _ = fmt.Fprintln(e.progress, step+" ...") // if the terminal is gone, progress does not matter
	})
}
