package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/policyd/policyd/internal/resolver/resolvertest"
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
	lab, err := resolvertest.Start("127.0.0.1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	policyd, err := b.startPolicyd(ctx, lab, 0)
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
	rows := [][]string{{"socket, connections", "policyd", "constant", "ratio", "p50", "p99", "p99.9", "constant p50", "p99", "p99.9"}}
	for _, network := range []string{"tcp", "unix"} {
		for _, connections := range []int{1, 16, 256} {
			row, err := b.compare(ctx, cases[0], policyd, duel{network, connections})
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
	}
	b.report.table(rows...)
	b.report.text("By kind of answer, unix, 16 connections:")
	rows = rows[:1]
	for _, c := range cases {
		row, err := b.compare(ctx, c, policyd, duel{"unix", 16})
		if err != nil {
			return err
		}
		row[0] = c.name
		rows = append(rows, row)
	}
	rows[0][0] = "answer"
	b.report.table(rows...)
	return nil
}

// duel is how two servers are compared.
type duel struct {
	network     string
	connections int
}

// compare measures policyd and a constant server in turn, and returns a row of the table.
func (b *bench) compare(ctx context.Context, c cachedCase, policyd *server, how duel) (row []string, err error) {
	constant, err := b.startConstant(ctx, c.reply(c.domain(0)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, constant.stop()) }()
	var requests [][]byte
	for i := range b.plan.warm {
		requests = append(requests, socketmap.AppendNetstring(nil, c.key(c.domain(i))))
	}
	var samples [2]sample
	var rates [2][]float64
	var ratios []float64
	for round := range b.plan.rounds {
		var now [2]float64
		for turn := range 2 {
			which := (round + turn) % 2
			s := []*server{policyd, constant}[which]
			address := s.unix
			if how.network == "tcp" {
				address = s.tcp
			}
			got, err := target{address: address, requests: requests}.expect(c.reply(c.domain(0)), c.begins).load(ctx, how.connections, b.plan.round)
			if err != nil {
				return nil, err
			}
			now[which] = got.rate
			rates[which] = append(rates[which], got.rate)
			samples[which].took = append(samples[which].took, got.took...)
		}
		ratios = append(ratios, now[0]/now[1])
	}
	row = []string{
		fmt.Sprintf("%s, %d", how.network, how.connections),
		thousands(median(rates[0])), thousands(median(rates[1])), fmt.Sprintf("%.2f", median(ratios)),
	}
	for _, s := range samples {
		slices.Sort(s.took)
		for _, part := range []float64{0.5, 0.99, 0.999} {
			row = append(row, micros(quantile(s.took, part)))
		}
	}
	return row, nil
}
