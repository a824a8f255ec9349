package main

import (
	"time"
)

// plan says how much is measured.
type plan struct {
	// Cached lookups: so many rounds of so long for each of the two servers.
	rounds int
	round  time.Duration
	// warm is how many domains are in the cache.
	warm int
	// single is how many cold lookups are made one after the other, fresh how many at 64 connections.
	single, fresh int
	// sizes are the numbers of domains to measure memory at.
	sizes []int
	// starts is how often policyd is started, policies how many of MTA-STS are there then.
	starts, policies int
	// Pauses: how many domains expire, for how long their sweeping is watched, how many fill a cache, how many evict
	// those, and for how long that and the calm is watched.
	expiring       int
	sweep          time.Duration
	full, evicting int
	calm           time.Duration
	// again is how often that is measured.
	again int
}

func full() plan {
	return plan{
		rounds: 21, round: 400 * time.Millisecond, warm: 1000, single: 10, fresh: 20_000, sizes: []int{1000, 100_000, 1_000_000}, starts: 5, policies: 100_000,
		expiring: 40_000, sweep: 35 * time.Second, full: 30_000, evicting: 10_000, calm: 5 * time.Second, again: 3,
	}
}

func quick() plan {
	return plan{
		rounds: 3, round: 300 * time.Millisecond, warm: 1000, single: 5, fresh: 1000, sizes: []int{1000, 5000}, starts: 3, policies: 5000,
		expiring: 2000, sweep: 5 * time.Second, full: 2000, evicting: 2000, calm: 2 * time.Second, again: 2,
	}
}

// bench is one run.
type bench struct {
	config config
	plan   plan
	dir    string
	used   int // directories below dir
	report *report
}
