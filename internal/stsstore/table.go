package stsstore

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// table holds the entries in memory, at most as many as its limit.
type table struct {
	mu      sync.RWMutex
	entries map[string]*entry
	weight  int
	limit   int
	changes atomic.Uint64 // entries stored and removed
}

func (t *table) setLimit(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit = n
}

// get does not allocate.
func (t *table) get(domain string) *entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[domain]
}

// put stores e, replacing the entry of its domain, and returns the domains that it evicted.
func (t *table) put(e *entry) (evicted []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes.Add(1)
	if old := t.entries[e.domain]; old != nil {
		t.weight -= old.weight
	}
	t.entries[e.domain] = e
	t.weight += e.weight
	return t.evict(e)
}

// evict removes the entries that were used the longest ago, except keep, if the table is over its limit, until it is a
// sixty-fourth below it. The caller holds t.mu.
func (t *table) evict(keep *entry) (evicted []string) {
	if t.weight <= t.limit {
		return nil
	}
	const part = 64
	// The flags change during the sort, so it sorts copies of them.
	type candidate struct {
		touched int64
		entry   *entry
	}
	list := make([]candidate, 0, len(t.entries))
	for _, e := range t.entries {
		if e != keep {
			list = append(list, candidate{e.touched.Load(), e})
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.touched, b.touched) })
	for _, c := range list {
		if t.weight <= t.limit-t.limit/part {
			break
		}
		t.drop(c.entry)
		evicted = append(evicted, c.entry.domain)
	}
	return evicted
}

// drop removes e. The caller holds t.mu.
func (t *table) drop(e *entry) {
	t.changes.Add(1)
	delete(t.entries, e.domain)
	t.weight -= e.weight
}

// remove removes e unless it has been replaced.
func (t *table) remove(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries[e.domain] == e {
		t.drop(e)
	}
}

// removeIf removes the entries for which f returns true. f must not call the table.
func (t *table) removeIf(f func(*entry) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if f(e) {
			t.drop(e)
		}
	}
}

// domains returns the domains of all entries.
func (t *table) domains() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Keys(t.entries))
}

// each calls f for every entry. f must not call the table.
func (t *table) each(f func(*entry)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.entries {
		f(e)
	}
}
