// Command bench measures a built policyd on this machine, beside a minimal server that knows one answer and, if
// PEER_TLSPOL names its binary, beside postfix-tlspol. All servers run on loopback in processes that it starts and
// ends. Figures from different machines or runs cannot be compared; the ratios within one run can.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/policyd/policyd/e2e/must"
)

// bench is one run.
type bench struct {
	policyd, peer string // binaries; peer may be ""
	dir           string
	plan          plan
}

// plan sets how much is measured.
type plan struct {
	rounds  int           // rounds for each pair of servers, in turn
	round   time.Duration // the length of a round of cached lookups
	warm    int           // domains in the cache then
	cold    int           // lookups per round
	domains []int         // the numbers of domains at which memory is measured
	busy    time.Duration // while the full cache evicts
	starts  int
}

func full() plan {
	return plan{rounds: 7, round: 400 * time.Millisecond, warm: 1000, cold: 6000, domains: []int{50_000, 100_000},
		busy: 8 * time.Second, starts: 5}
}

func quick() plan {
	return plan{rounds: 2, round: 100 * time.Millisecond, warm: 100, cold: 200, domains: []int{500},
		busy: 500 * time.Millisecond, starts: 2}
}

func main() {
	b := bench{plan: full(), peer: os.Getenv("PEER_TLSPOL")}
	var constant, reply, only string
	fast := false
	flag.StringVar(&b.policyd, "policyd", "bin/policyd", "the built `binary`")
	flag.BoolVar(&fast, "quick", false, "measure so little that the figures mean nothing")
	flag.StringVar(&only, "only", "", "measure this `section` only: cached, cold, queries, memory, pauses or start")
	flag.StringVar(&constant, "constant", "", "be the constant server at this `socket`")
	flag.StringVar(&reply, "reply", "", "the one `reply` of the constant server")
	flag.Parse()
	if fast {
		b.plan = quick()
	}
	debug.SetGCPercent(400) // the resolver here must not take the time of the servers
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	run := func() error { return b.run(ctx, only) }
	if constant != "" {
		run = func() error { return serveConstant(ctx, constant, reply) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures all sections, or one.
func (b *bench) run(ctx context.Context, only string) error {
	var err error
	if b.dir, err = os.MkdirTemp("", "policyd-bench-"); err != nil { // sockets need short paths
		return err
	}
	load, _ := os.ReadFile("/proc/loadavg") // an empty load average counts as unknown
	fmt.Printf("%d processors, %s/%s, %s; load average before: %s\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH,
		runtime.Version(), strings.TrimSpace(string(load)))
	begun, found := time.Now(), false
	for _, s := range []struct {
		name    string
		measure func(context.Context) [][]string
	}{
		{"cached", b.cached}, {"cold", b.cold}, {"queries", b.queries},
		{"memory", b.memory}, {"pauses", b.pauses}, {"start", b.start},
	} {
		if only != "" && only != s.name {
			continue
		}
		found = true
		if err = must.Catch(func() { table(s.measure(ctx)) }); err != nil {
			break
		}
	}
	if !found {
		err = fmt.Errorf("no section %q", only)
	}
	fmt.Printf("\n%.0f s\n", time.Since(begun).Seconds())
	return errors.Join(err, os.RemoveAll(b.dir))
}

// table prints rows; the first is the heading.
func table(rows [][]string) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w) // like all output here, it goes to the terminal
	for _, row := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	_ = w.Flush()
}
