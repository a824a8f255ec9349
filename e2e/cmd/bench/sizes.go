package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/policyd/policyd/internal/dns/dnstest"
)

// sizes measures memory by the number of domains that were looked up.
func (b *bench) sizes(ctx context.Context) error {
	b.report.text("## Memory", "Resident memory with that many domains in the cache, all with a prefix and signed, and max_entries set to hold them; at its highest while they were looked up, over 64 connections, and after that.")
	rows := [][]string{{"domains", "after", "highest", "bytes per domain"}}
	const each = 8 << 10 // of all processes, with room to spare
	for _, n := range b.plan.sizes {
		free, err := kibibytes("/proc/meminfo", "MemAvailable")
		if err != nil {
			return err
		}
		if needs := float64(n) * each; free < needs {
			rows = append(rows, []string{thousands(float64(n)), "needs " + mebibytes(needs), "", ""})
			continue
		}
		after, highest, err := b.size(ctx, n)
		if err != nil {
			return err
		}
		rows = append(rows, []string{thousands(float64(n)), mebibytes(after), mebibytes(highest), thousands(after / float64(n))})
	}
	b.report.table(rows...)
	return nil
}

func mebibytes(n float64) string { return fmt.Sprintf("%.0f MiB", n/(1<<20)) }

func (b *bench) size(ctx context.Context, n int) (after, highest float64, err error) {
	const entriesEach, usual, connections = 8, 400_000, 64
	lab, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	policyd, err := b.startPolicyd(ctx, lab.Addr(), process{entries: max(entriesEach*n, usual)})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, policyd.stop()) }()
	if err := policyd.fill(ctx, connections, fresh(lab, n, 0)); err != nil {
		return 0, 0, err
	}
	if after, err = policyd.memory("VmRSS"); err != nil {
		return 0, 0, err
	}
	highest, err = policyd.memory("VmHWM")
	return after, highest, err
}

// starts measures from the start of the process to the first answer.
func (b *bench) starts(ctx context.Context) error {
	b.report.text("## Start", fmt.Sprintf("From the start of the process to the first answer; the median of %d. The ones with a DNS query wait for the self-test of the resolver.", b.plan.starts))
	rows := [][]string{{"first answer", "state directory", "after"}}
	for _, first := range []struct{ what, key string }{
		{"to a host whose name says all", "[starttls-mx.example]"},
		{"to a domain", "f0000000.example"},
	} {
		for _, policies := range []int{0, b.plan.policies} {
			var took []float64
			for range b.plan.starts {
				one, err := b.start(ctx, first.key, process{policies: policies})
				if err != nil {
					return err
				}
				took = append(took, float64(one))
			}
			directory := "empty"
			if policies > 0 {
				directory = thousands(float64(policies)) + " MTA-STS policies"
			}
			rows = append(rows, []string{first.what, directory, millis(time.Duration(median(took)))})
		}
	}
	b.report.table(rows...)
	return nil
}

func (b *bench) start(ctx context.Context, key string, p process) (took time.Duration, err error) {
	lab, err := dnstest.Start("127.0.0.1")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	fresh(lab, 1, 0)
	dir, err := b.prepare(p)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	policyd, err := b.startIn(ctx, dir, lab.Addr(), p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, policyd.stop()) }()
	if err := policyd.fill(ctx, 1, []string{key}); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}
