package stsstore

import (
	"sync"
	"sync/atomic"

	"github.com/policyd/policyd/internal/statedb"
)

// table holds the entries in memory.
type table struct {
	mu      sync.RWMutex
	entries map[string]*entry
	weight  int
	changes atomic.Uint64 // entries stored and removed
}

// get does not allocate.
func (t *table) get(domain string) *entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[domain]
}

// put stores e, replacing the entry of its domain. While the entries weigh more than limit, it evicts others that were
// not used for long, and returns their domains.
func (t *table) put(e *entry, limit int) (evicted []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(e.domain)
	t.changes.Add(1)
	t.entries[e.domain] = e
	t.weight += e.weight
	for t.weight > limit {
		oldest := statedb.Oldest(t.entries, e.domain, (*entry).lastUse)
		if !t.drop(oldest) {
			break
		}
		evicted = append(evicted, oldest)
	}
	return evicted
}

// drop removes the entry of a domain, and reports whether there was one. The caller holds t.mu.
func (t *table) drop(domain string) bool {
	e, ok := t.entries[domain]
	if ok {
		t.changes.Add(1)
		delete(t.entries, domain)
		t.weight -= e.weight
	}
	return ok
}

// remove removes e unless it has been replaced, and reports whether it did.
func (t *table) remove(e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e != nil && t.entries[e.domain] == e && t.drop(e.domain)
}

// where returns the entries for which f returns true. f must not call the table.
func (t *table) where(f func(*entry) bool) (found []*entry) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.entries {
		if f(e) {
			found = append(found, e)
		}
	}
	return found
}

// domains returns the domains of the entries for which f returns true. f must not call the table.
func (t *table) domains(f func(*entry) bool) (domains []string) {
	for _, e := range t.where(f) {
		domains = append(domains, e.domain)
	}
	return domains
}
