package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns/dnstest"
)

// coldQueries counts the DNS queries of lookups of domains that are not in the cache, and how many round trips to the
// resolver they wait for.
func (b *bench) coldQueries(ctx context.Context) (err error) {
	const delay = 50 * time.Millisecond
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
	b.report.text("## Cold lookups", fmt.Sprintf("DNS queries for a domain that is not in the cache, with one MX host, and the time until the answer over the round trip of the resolver, which is %v here; the median of %d lookups one after the other. The policy of the domain with MTA-STS cannot be fetched here, which costs no query more or less. The records of the hosts and of MTA-STS are asked for side by side after the MX records. It takes longer where an answer has to be had before the next question: TLSA records only of a host whose addresses are signed (RFC 7672 section 2.2.2), MTA-STS of a signed domain without a prefix only when there are none, and the addresses of the policy host only of a domain that has a policy.", delay, b.plan.single))
	plain().publish(lab, "first.example", 0)
	if err := policyd.fill(ctx, 1, []string{"first.example"}); err != nil { // waits for the self-test
		return err
	}
	rows := [][]string{{"domain", "queries", "round trips", "asked for"}}
	for n, k := range kinds() {
		var took []float64
		before := lab.Queries()
		for i := range b.plan.single {
			d := fmt.Sprintf("c%d-%d.example", n, i)
			k.publish(lab, d, delay)
			begin := time.Now()
			if err := policyd.fill(ctx, 1, []string{d}); err != nil {
				return err
			}
			took = append(took, float64(time.Since(begin))/float64(delay))
		}
		queries := float64(lab.Queries()-before) / float64(b.plan.single)
		rows = append(rows, []string{k.name, fmt.Sprintf("%.1f", queries), fmt.Sprintf("%.1f", median(took)), asked(lab, k, fmt.Sprintf("c%d-0.example", n))})
	}
	b.report.table(rows...)
	return nil
}

// asked lists the questions that came about a domain.
func asked(lab *dnstest.Server, k kind, domain string) string {
	var types []string
	for _, q := range k.names(domain) {
		if n := lab.Asked(q.Name, q.Type); n > 0 {
			types = append(types, strings.TrimSpace(strings.Repeat(q.Type.String()+" ", n)))
		}
	}
	return strings.Join(types, " ")
}

// coldThroughput looks up fresh domains over 64 connections.
func (b *bench) coldThroughput(ctx context.Context) (err error) {
	const connections = 64
	b.report.text(fmt.Sprintf("%s fresh domains over %d connections, all with a prefix and signed. The resolver and the client share the processor with policyd.", thousands(float64(b.plan.fresh)), connections))
	rows := [][]string{{"round trip of the resolver", "lookups per second", "queries per domain"}}
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		rate, queries, err := b.flood(ctx, delay, connections)
		if err != nil {
			return err
		}
		rows = append(rows, []string{delay.String(), thousands(rate), fmt.Sprintf("%.1f", queries)})
	}
	b.report.table(rows...)
	return nil
}

func (b *bench) flood(ctx context.Context, delay time.Duration, connections int) (rate, queries float64, err error) {
	lab, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	policyd, err := b.startPolicyd(ctx, lab.Addr(), process{})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, policyd.stop()) }()
	domains := fresh(lab, b.plan.fresh, delay)
	begin := time.Now()
	if err := policyd.fill(ctx, connections, domains); err != nil {
		return 0, 0, err
	}
	n := float64(len(domains))
	return n / time.Since(begin).Seconds(), float64(lab.Queries()) / n, nil
}

// fresh publishes so many domains with a prefix.
func fresh(lab *dnstest.Server, n int, delay time.Duration) []string {
	domains := make([]string, n)
	for i := range domains {
		domains[i] = fmt.Sprintf("f%07d.example", i)
		prefixed().publish(lab, domains[i], delay)
	}
	return domains
}
