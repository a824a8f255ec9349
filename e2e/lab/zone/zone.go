// Package zone writes a tree of DNS zones under a private root, signed (RFC 4034, RFC 5155) or deliberately
// not quite, as zone files for the auth-zones of a resolver.
package zone

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// State is how well a zone is signed.
type State uint8

// The states of a zone. The zero value is a zone that validates.
const (
	Signed   State = iota // with NSEC
	Signed3               // with NSEC3
	Unsigned              // the parent proves that there is no DS
	Expired               // all signatures are too old: bogus
	WrongDS               // the parent's DS is of another key: bogus
)

// Zone is one zone. Its origin's parent is the longest other origin above it.
type Zone struct {
	Origin string // with the final dot
	State  State
	// Records in presentation format, owner names absolute or relative to Origin; SOA, NS and keys come by themselves.
	Records []string
	// Broken lists "owner type" whose signatures do not fit: these RRsets alone are bogus. Owners are absolute.
	Broken []string
}

// ttl of everything: long enough for a cache to be seen at work, and read by nothing in the lab but caches.
const ttl = 600

// NameServer is the name server of every zone. Resolvers that read the zone files need no address for it; for the
// others, the root zone can hold one, and no delegation needs glue.
const NameServer = "ns."

// Names returns the owners of all records that were added, each once.
func (t *Tree) Names() []string {
	var names []string
	for _, z := range t.zones {
		for _, r := range z.Records {
			owner, _, _ := strings.Cut(r, " ")
			names = append(names, owner)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Tree is zones under one root, with a key for each. Write may be called again after the zones have changed:
// the keys stay.
type Tree struct {
	zones map[string]*signed
}

// signed is a zone with its key and the records to be.
type signed struct {
	Zone
	key *key
	rrs []dns.RR
}

// NewTree returns a tree of zones; the root must be among them.
func NewTree(zones []Zone) (*Tree, error) {
	t := &Tree{zones: map[string]*signed{}}
	for _, z := range zones {
		if _, twice := t.zones[z.Origin]; twice || !dns.IsFqdn(z.Origin) {
			return nil, fmt.Errorf("zone: %q is there twice or has no final dot", z.Origin)
		}
		k, err := newKey(z.Origin)
		if err != nil {
			return nil, err
		}
		t.zones[z.Origin] = &signed{Zone: z, key: k}
	}
	if t.zones["."] == nil {
		return nil, fmt.Errorf("zone: there is no root")
	}
	return t, nil
}

// Origins returns the names of all zones, sorted.
func (t *Tree) Origins() []string {
	var all []string
	for o := range t.zones {
		all = append(all, o)
	}
	sort.Strings(all)
	return all
}

// Anchor returns the DS record of the root for a trust-anchor file.
func (t *Tree) Anchor() string {
	// unbound reads no tabs here.
	return strings.ReplaceAll(t.zones["."].key.ds().String(), "\t", " ") + "\n"
}

// RRset is the records of one owner and type.
type RRset struct {
	Owner string // with the final dot
	Type  string
	TTL   int // of the zone if 0
	Data  []string
}

// Set replaces an RRset in the zone that contains it, or removes it if there is no data.
func (t *Tree) Set(set RRset) error {
	z := t.holder(set.Owner)
	if z == nil {
		return fmt.Errorf("zone: no zone contains %s", set.Owner)
	}
	if set.TTL == 0 {
		set.TTL = ttl
	}
	var kept []string
	for _, r := range z.Records {
		rr, err := z.parse(r)
		if err != nil {
			return err
		}
		if !strings.EqualFold(rr.Header().Name, set.Owner) || dns.TypeToString[rr.Header().Rrtype] != set.Type {
			kept = append(kept, r)
		}
	}
	for _, data := range set.Data {
		kept = append(kept, fmt.Sprintf("%s %d %s %s", set.Owner, set.TTL, set.Type, data))
	}
	z.Records = kept
	return nil
}

// Add adds records to the zone that contains their owner. Each record starts with the owner, with the final dot.
func (t *Tree) Add(records ...string) error {
	for _, r := range records {
		owner, _, _ := strings.Cut(r, " ")
		z := t.holder(owner)
		if z == nil || !dns.IsFqdn(owner) {
			return fmt.Errorf("zone: no zone contains %q", r)
		}
		z.Records = append(z.Records, r)
	}
	return nil
}

// holder returns the zone with the longest origin above owner, or at it.
func (t *Tree) holder(owner string) *signed {
	var best *signed
	for o, z := range t.zones {
		if dns.IsSubDomain(o, owner) && (best == nil || len(o) > len(best.Origin)) {
			best = z
		}
	}
	return best
}

// Origin returns the zone that holds owner, "" if none does.
func (t *Tree) Origin(owner string) string {
	if z := t.holder(owner); z != nil {
		return z.Origin
	}
	return ""
}

// parent returns the zone above, nil for the root.
func (t *Tree) parent(z *signed) *signed {
	var best *signed
	for o, p := range t.zones {
		if p != z && dns.IsSubDomain(o, z.Origin) && (best == nil || len(o) > len(best.Origin)) {
			best = p
		}
	}
	return best
}

// Write signs everything and writes one file per zone into dir, named by File. Files are replaced atomically.
func (t *Tree) Write(dir string) error {
	for _, z := range t.zones {
		if err := z.begin(); err != nil {
			return err
		}
	}
	for _, z := range t.zones {
		if p := t.parent(z); p != nil {
			p.rrs = append(p.rrs, z.delegation()...)
		}
	}
	for _, z := range t.zones {
		if z.State != Unsigned {
			if err := z.sign(time.Now()); err != nil {
				return fmt.Errorf("zone: %s: %w", z.Origin, err)
			}
		}
		path := filepath.Join(dir, File(z.Origin))
		if err := os.WriteFile(path+".new", []byte(z.text()), 0o644); err != nil {
			return fmt.Errorf("zone: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("zone: %w", err)
		}
	}
	return nil
}

// File is the name of a zone's file.
func File(origin string) string { return strings.Trim(origin, ".") + ".zone" }

func (z *signed) parse(record string) (dns.RR, error) {
	rr, err := dns.NewRR(fmt.Sprintf("$ORIGIN %s\n$TTL %d\n%s\n", z.Origin, ttl, record))
	if err == nil && rr == nil {
		err = fmt.Errorf("no record")
	}
	if err != nil {
		return nil, fmt.Errorf("zone: %s: %q: %w", z.Origin, record, err)
	}
	return rr, nil
}

// begin fills rrs with the SOA, the NS and the records of the zone.
func (z *signed) begin() error {
	z.rrs = nil
	apex := []string{
		fmt.Sprintf("%s SOA %s hostmaster.test. %d 3600 600 86400 %d", z.Origin, NameServer, time.Now().Unix(), ttl),
		fmt.Sprintf("%s NS %s", z.Origin, NameServer),
	}
	for _, r := range append(apex, z.Records...) {
		rr, err := z.parse(r)
		if err != nil {
			return err
		}
		z.rrs = append(z.rrs, rr)
	}
	return nil
}

// delegation returns the records for the zone in its parent.
func (z *signed) delegation() []dns.RR {
	h := dns.RR_Header{Name: z.Origin, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: ttl}
	rrs := []dns.RR{&dns.NS{Hdr: h, Ns: NameServer}}
	switch z.State {
	case Unsigned:
	case WrongDS:
		ds := z.key.ds()
		ds.Digest = strings.Repeat("ab", 32)
		rrs = append(rrs, ds)
	case Signed, Signed3, Expired:
		rrs = append(rrs, z.key.ds())
	}
	return rrs
}

func (z *signed) text() string {
	var b strings.Builder
	for _, rr := range z.rrs {
		b.WriteString(rr.String() + "\n")
	}
	return b.String()
}
