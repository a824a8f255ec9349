package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// stage is a resolver and the servers that are compared: policyd is the first.
type stage struct {
	dns     *dnstest.Server
	names   []string
	servers []*server
}

// with starts policyd, the peer if there is one, and the constant server if constant is its reply, and ends all after
// f.
func (b *bench) with(ctx context.Context, entries int, constant string, f func(stage) error) (err error) {
	dns, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dns.Close()) }()
	st := stage{dns: dns}
	dane().publish(dns, "awake.example", 0)
	add := func(name string, start func() (*server, error)) error {
		s, err := start()
		if err != nil {
			return err
		}
		st.names, st.servers = append(st.names, name), append(st.servers, s)
		return s.awake(ctx)
	}
	defer func() {
		for _, s := range st.servers {
			err = errors.Join(err, s.Stop())
		}
	}()
	err = add("policyd", func() (*server, error) { return b.startPolicyd(ctx, dns.Addr(), entries) })
	if err == nil && constant != "" {
		err = add("constant", func() (*server, error) { return b.startConstant(ctx, constant) })
	}
	if err == nil && b.peer != "" {
		err = add("peer", func() (*server, error) { return b.startPeer(ctx, dns.Addr()) })
	}
	if err != nil {
		return err
	}
	return f(st)
}

// heading is the first row of a table that has a column per server and, after that of policyd, ratios to it.
func (st stage) heading(first, unit string) []string {
	row := []string{first}
	for i, name := range st.names {
		row = append(row, name+unit)
		if i > 0 {
			row = append(row, "ratio")
		}
	}
	return row
}

// ratios are the cells of a row: the median of each server, and the median of the ratios of policyd to it, round by
// round.
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

// cached compares lookups that are answered from the cache: requests per second, over unix sockets.
func (b *bench) cached(ctx context.Context) (rows [][]string, err error) {
	const answer = "OK dane-only"
	return rows, b.with(ctx, usualEntries, answer, func(st stage) error {
		domains := dane().several(st.dns, "d", b.plan.warm, 0)
		targets := make([]target, len(st.servers))
		for i, s := range st.servers {
			if err := s.fill(ctx, 8, domains); err != nil {
				return err
			}
			targets[i] = newTarget(s, domains, answer)
		}
		rows = [][]string{append(st.heading("cached lookups, connections", " 1/s"), "policyd CPU")}
		for _, connections := range []int{1, 16, 256} {
			rates := make([][]float64, len(st.servers))
			var requests float64
			var used time.Duration
			for range b.plan.rounds {
				for i, t := range targets {
					before, unread := st.servers[i].cpu()
					took, failed := t.load(ctx, connections, b.plan.round)
					after, err := st.servers[i].cpu()
					if err = errors.Join(unread, failed, err); err != nil {
						return err
					}
					rates[i] = append(rates[i], float64(len(took))/b.plan.round.Seconds())
					if i == 0 {
						requests, used = requests+float64(len(took)), used+after-before
					}
				}
			}
			cpu := fmt.Sprintf("%.1f µs", float64(used.Nanoseconds())/requests/1000)
			rows = append(rows, slices.Concat([]string{fmt.Sprint(connections)}, ratios(rates, "%.0f"), []string{cpu}))
		}
		return nil
	})
}

// cold compares lookups of domains that are not in the cache: per second, over 64 connections.
func (b *bench) cold(ctx context.Context) (rows [][]string, err error) {
	const connections, rounds = 64, 3
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		n := b.plan.cold
		if delay > 0 {
			n /= 4
		}
		err := b.with(ctx, usualEntries, "", func(st stage) error {
			rates := make([][]float64, len(st.servers))
			var used time.Duration
			for round := range rounds {
				domains := dane().several(st.dns, string(rune('a'+round)), n, delay)
				for i, s := range st.servers {
					before, unread := s.cpu()
					begun := time.Now()
					failed := s.fill(ctx, connections, domains)
					rates[i] = append(rates[i], float64(n)/time.Since(begun).Seconds())
					after, err := s.cpu()
					if err = errors.Join(unread, failed, err); err != nil {
						return err
					}
					if i == 0 {
						used += after - before
					}
				}
			}
			if rows == nil {
				rows = [][]string{append(st.heading("cold lookups, resolver at", " 1/s"), "policyd CPU")}
			}
			cpu := fmt.Sprintf("%.0f µs", float64(used.Microseconds())/float64(rounds*n))
			rows = append(rows, slices.Concat([]string{delay.String()}, ratios(rates, "%.0f"), []string{cpu}))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// queries counts the DNS queries of a cold lookup, and the round trips to the resolver that it waits for.
func (b *bench) queries(ctx context.Context) (rows [][]string, err error) {
	const delay, each = 50 * time.Millisecond, 5
	rows = [][]string{{"cold lookup of one domain", "queries", "round trips"}}
	return rows, b.with(ctx, usualEntries, "", func(st stage) error {
		for n, k := range kinds() {
			var trips []float64
			before := st.dns.Queries()
			for _, d := range k.several(st.dns, fmt.Sprintf("q%d-", n), each, delay) {
				begun := time.Now()
				if err := st.servers[0].fill(ctx, 1, []string{d}); err != nil {
					return err
				}
				trips = append(trips, float64(time.Since(begun))/float64(delay))
			}
			queries := float64(st.dns.Queries()-before) / each
			rows = append(rows, []string{k.name, fmt.Sprintf("%.1f", queries), fmt.Sprintf("%.1f", median(trips))})
		}
		return nil
	})
}

// memory compares the resident memory with many domains in the cache. Servers that have been measured with some domains
// are filled further for the next measurement.
func (b *bench) memory(ctx context.Context) (rows [][]string, err error) {
	const connections, entriesEach = 64, 8
	measure := func(what string, steps []int, publish func(*dnstest.Server, int) []string) error {
		most := steps[len(steps)-1]
		return b.with(ctx, max(usualEntries, entriesEach*most), "", func(st stage) error {
			if rows == nil {
				rows = [][]string{st.heading("resident memory, domains", " MiB")}
			}
			domains, filled := publish(st.dns, most), 0
			for _, n := range steps {
				sizes := make([][]float64, len(st.servers))
				for i, s := range st.servers {
					err := s.fill(ctx, connections, domains[filled:n])
					size, failed := s.Memory()
					if err = errors.Join(err, failed); err != nil {
						return err
					}
					sizes[i] = []float64{size}
				}
				rows = append(rows, append([]string{fmt.Sprintf("%d, %s", n, what)}, ratios(sizes, "%.0f")...))
				filled = n
			}
			return nil
		})
	}
	if err = measure("70 % with the hosts of 20 providers", b.plan.domains[:1], shared); err == nil {
		own := func(s *dnstest.Server, n int) []string { return dane().several(s, "m", n, 0) }
		err = measure("a host each", b.plan.domains, own)
	}
	return rows, err
}

// pauses compares how long cached answers take while the full cache of policyd evicts; both servers are asked at the
// same time.
func (b *bench) pauses(ctx context.Context) (rows [][]string, err error) {
	const entries, busy, answer = 20_000, 4, "OK dane-only"
	rows = [][]string{{"cached answer, cache of policyd", "policyd p99.9", "constant p99.9", "policyd longest",
		"constant longest"}}
	return rows, b.with(ctx, entries, answer, func(st stage) error {
		hot := dane().several(st.dns, "h", 1, 0)
		more := dane().several(st.dns, "f", entries, 0)
		for _, what := range []string{"idle", "evicts"} {
			limited, cancel := context.WithTimeout(ctx, b.plan.busy+time.Minute)
			load := make(chan error, 1)
			stop := make(chan struct{})
			go func() {
				if what == "evicts" {
					load <- st.servers[0].churn(limited, more, busy, stop)
				} else {
					load <- nil
				}
			}()
			took := make([][]time.Duration, 2)
			watched := make(chan error, 2)
			for i, s := range st.servers[:2] {
				go func() {
					var err error
					took[i], err = newTarget(s, hot, answer).load(limited, 1, b.plan.busy)
					watched <- err
				}()
			}
			err := errors.Join(<-watched, <-watched)
			close(stop)
			err = errors.Join(err, <-load)
			cancel()
			if err != nil {
				return err
			}
			slices.Sort(took[0])
			slices.Sort(took[1])
			rows = append(rows, []string{what, millis(quantile(took[0], 0.999)), millis(quantile(took[1], 0.999)),
				millis(quantile(took[0], 1)), millis(quantile(took[1], 1))})
		}
		return nil
	})
}

// churn looks up domains over and over until stop is closed.
func (s *server) churn(ctx context.Context, domains []string, connections int, stop <-chan struct{}) error {
	const part = 500
	for {
		for chunk := range slices.Chunk(domains, part) {
			select {
			case <-stop:
				return nil
			default:
			}
			if err := s.fill(ctx, connections, chunk); err != nil {
				return err
			}
		}
	}
}

// start measures from the start of the process to the first answer, which waits for the test of the resolver.
func (b *bench) start(ctx context.Context) (rows [][]string, err error) {
	var took []float64
	for range b.plan.starts {
		begun := time.Now()
		err := b.with(ctx, usualEntries, "", func(stage) error {
			took = append(took, float64(time.Since(begun)))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return [][]string{{"start to first answer", millis(time.Duration(median(took)))}}, nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// newTarget is a server that is asked for domains in turn and always gives the same answer.
func newTarget(s *server, domains []string, answer string) target {
	t := target{address: s.Address, reply: socketmap.AppendNetstring(nil, answer)}
	for _, d := range domains {
		t.requests = append(t.requests, socketmap.AppendNetstring(nil, s.table+" "+d))
	}
	return t
}
