package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// heading returns the first row of a table: a column per server, and for each but policyd the ratio of policyd to it.
func (st stage) heading(first, unit string) []string {
	row := []string{first}
	for i, s := range st.servers {
		row = append(row, s.name+unit)
		if i > 0 {
			row = append(row, "ratio")
		}
	}
	return row
}

// ratios returns the cells of a row: the median of each server, and the median ratio of policyd to it over all rounds.
func ratios(values [][]float64, format string) []string {
	var row []string
	for i, v := range values {
		row = append(row, fmt.Sprintf(format, median(slices.Clone(v))))
		if i > 0 {
			var ratio []float64
			for n := range v {
				ratio = append(ratio, values[0][n]/v[n])
			}
			row = append(row, fmt.Sprintf("%.2f", median(ratio)))
		}
	}
	return row
}

// compare runs f on each server in turn, in several rounds. f returns how many lookups it made. The result is the cells
// of a row: lookups per second, and the processor time of each server per lookup.
func (st stage) compare(rounds int, cpu string, f func(round, server int) int) []string {
	rates, costs := make([][]float64, len(st.servers)), make([]float64, len(st.servers))
	for round := range rounds {
		for i, s := range st.servers {
			before, begun := s.cpu(), time.Now()
			n := f(round, i)
			rates[i] = append(rates[i], float64(n)/time.Since(begun).Seconds())
			costs[i] += float64((s.cpu() - before).Microseconds()) / float64(n*rounds)
		}
	}
	var cells []string
	for _, cost := range costs {
		cells = append(cells, fmt.Sprintf(cpu, cost))
	}
	return append(ratios(rates, "%.0f"), strings.Join(cells, ", "))
}

// cached compares lookups that are answered from the cache: requests per second, over unix sockets.
func (b *bench) cached(ctx context.Context) (rows [][]string) {
	const answer = "OK dane-only"
	b.with(ctx, usualEntries, answer, func(st stage) {
		domains := dane().several(st.dns, "d", b.plan.warm)
		for _, s := range st.servers {
			s.fill(ctx, 8, domains)
		}
		rows = [][]string{append(st.heading("cached lookups, connections", " 1/s"), "CPU of each")}
		most := 256
		if b.peer != "" {
			most = 100 // postfix-tlspol accepts 128
		}
		for _, connections := range []int{1, 16, most} {
			rows = append(rows, append([]string{fmt.Sprint(connections)},
				st.compare(b.plan.rounds, "%.1f µs", func(_, i int) int {
					return len(st.servers[i].load(ctx, domains, answer, connections, b.plan.round))
				})...))
		}
	})
	return rows
}

// cold compares lookups of domains that are not in the cache: per second, over 64 connections.
func (b *bench) cold(ctx context.Context) (rows [][]string) {
	const connections, rounds = 64, 3
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		n := b.plan.cold
		if delay > 0 {
			n /= 4
		}
		b.with(ctx, usualEntries, "", func(st stage) {
			if rows == nil {
				rows = [][]string{append(st.heading("cold lookups, resolver at", " 1/s"), "CPU of each")}
			}
			var domains [rounds][]string
			for round := range domains {
				domains[round] = dane().several(st.dns, string(rune('a'+round)), n)
			}
			st.dns.SetDelay(delay)
			rows = append(rows, append([]string{delay.String()},
				st.compare(rounds, "%.0f µs", func(round, i int) int {
					st.servers[i].fill(ctx, connections, domains[round])
					return n
				})...))
		})
	}
	return rows
}

// queries counts the DNS queries of a cold lookup, and the round trips to the resolver that it waits for.
func (b *bench) queries(ctx context.Context) [][]string {
	const delay, each = 50 * time.Millisecond, 5
	rows := [][]string{{"cold lookup of one domain", "queries", "round trips"}}
	b.with(ctx, usualEntries, "", func(st stage) {
		st.dns.SetDelay(delay)
		for n, k := range kinds() {
			var trips []float64
			before := st.dns.Queries()
			for _, d := range k.several(st.dns, fmt.Sprintf("q%d-", n), each) {
				begun := time.Now()
				st.servers[0].fill(ctx, 1, []string{d})
				trips = append(trips, float64(time.Since(begun))/float64(delay))
			}
			queries := float64(st.dns.Queries()-before) / each
			rows = append(rows, []string{k.name, fmt.Sprintf("%.1f", queries), fmt.Sprintf("%.1f", median(trips))})
		}
	})
	return rows
}

// memory compares the resident memory with many domains in the cache. Servers that have been measured with some domains
// are filled further for the next measurement.
func (b *bench) memory(ctx context.Context) (rows [][]string) {
	const connections, entriesEach = 64, 8
	measure := func(what string, steps []int, publish func(*dnstest.Server, int) []string) {
		most := steps[len(steps)-1]
		b.with(ctx, max(usualEntries, entriesEach*most), "", func(st stage) {
			if rows == nil {
				rows = [][]string{st.heading("resident memory, domains", " MiB")}
			}
			domains, filled := publish(st.dns, most), 0
			for _, n := range steps {
				sizes := make([][]float64, len(st.servers))
				for i, s := range st.servers {
					s.fill(ctx, connections, domains[filled:n])
					sizes[i] = []float64{must.Get(s.Memory())}
				}
				rows = append(rows, append([]string{fmt.Sprintf("%d, %s", n, what)}, ratios(sizes, "%.0f")...))
				filled = n
			}
		})
	}
	measure("70 % with the hosts of 20 providers", b.plan.domains[:1], shared)
	measure("a host each", b.plan.domains, func(s *dnstest.Server, n int) []string { return dane().several(s, "m", n) })
	return rows
}

// pauses compares how long the cached answers of both servers take while the full cache of policyd evicts.
func (b *bench) pauses(ctx context.Context) [][]string {
	const entries, busy, answer = 20_000, 4, "OK dane-only"
	rows := [][]string{{"cached answer, cache of policyd", "policyd p99.9", "constant p99.9", "policyd longest",
		"constant longest"}}
	b.with(ctx, entries, answer, func(st stage) {
		hot := dane().several(st.dns, "h", 1)
		more := dane().several(st.dns, "f", entries)
		for _, what := range []string{"idle", "evicts"} {
			until := time.Now().Add(b.plan.busy)
			took := make([][]time.Duration, 2)
			must.Each(3, 3, func(i int) {
				if i < len(took) {
					took[i] = st.servers[i].load(ctx, hot, answer, 1, b.plan.busy)
					slices.Sort(took[i])
				} else if what == "evicts" {
					st.servers[0].churn(ctx, more, busy, until)
				}
			})
			row := []string{what}
			for _, part := range []float64{0.999, 1} {
				for _, times := range took {
					row = append(row, daemon.Millis(daemon.Quantile(times, part)))
				}
			}
			rows = append(rows, row)
		}
	})
	return rows
}

// churn looks up domains over and over until the time is over.
func (s *server) churn(ctx context.Context, domains []string, connections int, until time.Time) {
	const part = 500
	for time.Now().Before(until) {
		for chunk := range slices.Chunk(domains, part) {
			if time.Now().Before(until) {
				s.fill(ctx, connections, chunk)
			}
		}
	}
}

// start measures from the start of the process to the first answer, which waits for the test of the resolver.
func (b *bench) start(ctx context.Context) [][]string {
	var took []float64
	for range b.plan.starts {
		begun := time.Now()
		b.with(ctx, usualEntries, "", func(stage) { took = append(took, float64(time.Since(begun))) })
	}
	return [][]string{{"start to first answer", daemon.Millis(time.Duration(median(took)))}}
}
