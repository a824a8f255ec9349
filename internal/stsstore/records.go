package stsstore

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

// livePatience is how long a lookup waits for the TXT record, and again for a newer policy, while the one it
// has is live: that one holds anyway, but it should be the current one.
const livePatience = 5 * time.Second

// announced is the TXT RRset of a domain and what it says. It is not changed.
type announced struct {
	domain string
	name   string // of the RRset
	rrset  *dns.RRset
	id     string
	err    error
}

// records spares lookups that are answered from caches the making of names and the parsing of records.
// Its size is fixed: what collides is made anew, and so is what is large.
type records struct {
	seed  maphash.Seed
	slots []atomic.Pointer[announced]
}

func newRecords() records {
	const slots = 1 << 14
	return records{seed: maphash.MakeSeed(), slots: make([]atomic.Pointer[announced], slots)}
}

func (r *records) slot(domain string) *atomic.Pointer[announced] {
	return &r.slots[maphash.String(r.seed, domain)%uint64(len(r.slots))]
}

// of returns the record of a domain as it was last seen, perhaps without an RRset.
func (r *records) of(domain string) *announced {
	slot := r.slot(domain)
	a := slot.Load()
	if a == nil || a.domain != domain {
		a = &announced{domain: strings.Clone(domain), name: mtasts.RecordName(domain)}
		slot.Store(a)
	}
	return a
}

// parse reads an RRset that was found for a.
func (r *records) parse(a *announced, rrset *dns.RRset) (string, error) {
	if a.rrset == rrset {
		return a.id, a.err
	}
	n := &announced{domain: a.domain, name: a.name, rrset: rrset}
	n.id, n.err = mtasts.RecordID(rrset.TXT)
	if small(rrset) {
		r.slot(a.domain).Store(n)
	}
	return n.id, n.err
}

// small says that an RRset may be kept here, where no cache counts it.
func small(rrset *dns.RRset) bool {
	const most, stringHeader = 1 << 10, 16
	size := len(rrset.Owner)
	for _, txt := range rrset.TXT {
		size += stringHeader + len(txt)
	}
	return size <= most
}

// announcement returns the id that the domain announces. The error is one of ParseRecord's, dns.ErrNotCached, or that
// the lookup failed.
func (v View) announcement(ctx context.Context, domain string, live bool) (string, error) {
	o, a := v.store.options.Load(), v.store.records.of(domain)
	q := dns.Question{Name: a.name, Type: dns.TypeTXT}
	rrset, err := o.Resolver.Lookup(ctx, q, dns.Effort{CacheOnly: true, Untrusted: v.passive})
	if !v.cached && errors.Is(err, dns.ErrNotCached) {
		if live {
			limited, cancel := context.WithTimeout(ctx, livePatience)
			defer cancel()
			ctx = limited
		}
		rrset, err = o.Resolver.Lookup(ctx, q, dns.Effort{Untrusted: v.passive})
	}
	if err != nil {
		return "", err
	}
	return v.store.records.parse(a, rrset)
}
