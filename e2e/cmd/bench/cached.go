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

// cachedCase is one kind of cached lookups. The name of every domain has the same length, so every reply has.
type cachedCase struct {
	name  string
	kind  kind
	key   func(domain string) string // map name, space and key
	reply func(domain string) string
	// begins is the part of the reply that is the same for every domain.
	begins string
}

func cachedCases() []cachedCase {
	policy := func(d string) string { return "tls-policy " + d }
	return []cachedCase{
		{"prefix", prefixed(), policy, func(d string) string { return "OK secure match=starttls-mx." + d + " servername=hostname" }, "OK secure match=starttls-mx."},
		{"plain", plain(), policy, func(string) string { return "NOTFOUND " }, "NOTFOUND "},
		{"DANE", withTLSA(), policy, func(string) string { return "OK dane-only" }, "OK dane-only"},
		{"transport, no route", plain(), func(d string) string { return "transport user@" + d }, func(string) string { return "NOTFOUND " }, "NOTFOUND "},
	}
}

func (c cachedCase) domain(i int) string {
	return fmt.Sprintf("d%06d.%c%d.example", i, c.name[0], len(c.name))
}

// cached compares cached lookups with the constant server.
func (b *bench) cached(ctx context.Context) (err error) {
	lab, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	policyd, err := b.startPolicyd(ctx, lab.Addr(), process{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, policyd.stop()) }()
	cases := cachedCases()
	for _, c := range cases {
		var domains []string
		for i := range b.plan.warm {
			c.kind.publish(lab, c.domain(i), 0)
			domains = append(domains, c.domain(i))
		}
		const connections = 8
		if err := policyd.fill(ctx, connections, domains); err != nil {
			return err
		}
	}
	b.report.text("## Cached lookups",
		fmt.Sprintf("Requests per second of policyd with its default settings, log and metrics included, for %s domains that are in the cache, and of a minimal server that answers every request with one constant reply: processes like any others, measured in turn, %d times %v each. The ratio is the median of the rounds.", thousands(float64(b.plan.warm)), b.plan.rounds, b.plan.round))
	throughput := [][]string{{"socket, connections", "policyd", "constant", "ratio", "CPU of policyd", "CPU of constant"}}
	latency := [][]string{{"socket, connections", "p50", "p99", "p99.9", "constant p50", "p99", "p99.9"}}
	add := func(name string, c cachedCase, how duel) error {
		d, err := b.compare(ctx, c, policyd, how)
		throughput, latency = append(throughput, append([]string{name}, d.throughput()...)), append(latency, append([]string{name}, d.latency()...))
		return err
	}
	for _, network := range []string{"tcp", "unix"} {
		for _, connections := range []int{1, 16, 256} {
			if err := add(fmt.Sprintf("%s, %d", network, connections), cases[0], duel{network, connections}); err != nil {
				return err
			}
		}
	}
	for _, c := range cases[1:] {
		if err := add(c.name+": unix, 16", c, duel{"unix", 16}); err != nil {
			return err
		}
	}
	b.report.text("Requests per second, and processor time of the server for one request. The first rows are of domains with a prefix.")
	b.report.table(throughput...)
	b.report.text("Time until the reply:")
	b.report.table(latency...)
	return nil
}

// duel is how two servers are compared.
type duel struct {
	network     string
	connections int
}

// outcome is what compare found: policyd first, then the constant server.
type outcome struct {
	rates  [2][]float64
	ratios []float64
	took   [2][]time.Duration
	cpu    [2]time.Duration
}

func (o outcome) throughput() []string {
	row := []string{thousands(median(o.rates[0])), thousands(median(o.rates[1])), fmt.Sprintf("%.2f", median(o.ratios))}
	for i := range o.cpu {
		row = append(row, fmt.Sprintf("%.1f µs", float64(o.cpu[i].Nanoseconds())/float64(max(len(o.took[i]), 1))/1000))
	}
	return row
}

func (o outcome) latency() []string {
	var row []string
	for _, took := range o.took {
		slices.Sort(took)
		for _, part := range []float64{0.5, 0.99, 0.999} {
			row = append(row, micros(quantile(took, part)))
		}
	}
	return row
}

// compare measures policyd and a constant server in turn.
func (b *bench) compare(ctx context.Context, c cachedCase, policyd *server, how duel) (o outcome, err error) {
	constant, err := b.startConstant(ctx, c.reply(c.domain(0)))
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, constant.stop()) }()
	var requests [][]byte
	for i := range b.plan.warm {
		requests = append(requests, socketmap.AppendNetstring(nil, c.key(c.domain(i))))
	}
	for round := range b.plan.rounds {
		var rate [2]float64
		for turn := range 2 {
			i := (round + turn) % 2
			s := []*server{policyd, constant}[i]
			t := target{address: s.unix, requests: requests}.expect(c.reply(c.domain(0)), c.begins)
			if how.network == "tcp" {
				t.address = s.tcp
			}
			before, err := s.cpu()
			if err != nil {
				return o, err
			}
			got, err := t.load(ctx, how.connections, b.plan.round)
			if err != nil {
				return o, err
			}
			after, err := s.cpu()
			if err != nil {
				return o, err
			}
			rate[i] = got.rate
			o.rates[i], o.took[i], o.cpu[i] = append(o.rates[i], got.rate), append(o.took[i], got.took...), o.cpu[i]+after-before
		}
		o.ratios = append(o.ratios, rate[0]/rate[1])
	}
	return o, nil
}
