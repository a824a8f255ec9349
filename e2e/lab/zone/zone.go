// Package zone writes a tree of DNS zones under a private root as files for the auth-zones of a resolver. The tools of
// BIND sign them, or deliberately sign them badly.
package zone

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	// Broken lists "owner type" whose signatures do not fit: these RRsets alone are bogus. Owners are absolute.
	Broken []string

	ds      string // the DS record of its key
	records []string
}

// ttl is the TTL of all records: long enough for a test to see that an answer came from a cache.
const ttl = 600

// NameServer is the name server of every zone. Resolvers that read the zone files need no address for it; for the
// others, the root zone can hold one, and no delegation needs glue.
const NameServer = "ns."

// Tree is zones under one root, with a key for each. Write may be called again: the keys stay.
type Tree struct {
	dir   string
	zones map[string]*Zone
}

// NewTree returns a tree of zones; the root must be among them. Its keys and its files are in dir.
func NewTree(dir string, zones []Zone) (*Tree, error) {
	t := &Tree{dir: dir, zones: map[string]*Zone{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	for _, z := range zones {
		key, err := run("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K", dir, z.Origin)
		if err == nil {
			z.ds, err = run("dnssec-dsfromkey", "-2", filepath.Join(dir, key))
		}
		if err != nil {
			return nil, err
		}
		t.zones[z.Origin] = &z
	}
	return t, nil
}

// run runs a program to its end and returns its one line of output.
func run(program string, args ...string) (string, error) {
	var complaints strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("zone: %s: %w: %s", program, err, &complaints)
	}
	return strings.TrimSpace(string(out)), err
}

// Names returns the owners of all records that were added, each once.
func (t *Tree) Names() []string {
	var names []string
	for _, z := range t.zones {
		for _, r := range z.records {
			owner, _, _ := strings.Cut(r, " ")
			names = append(names, owner)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Origins returns the names of all zones, sorted.
func (t *Tree) Origins() []string { return slices.Sorted(maps.Keys(t.zones)) }

// Anchor returns the DS record of the root for a trust-anchor file.
func (t *Tree) Anchor() string { return t.zones["."].ds + "\n" }

// Set replaces an RRset in the zone that contains it, or removes it if there is no data.
func (t *Tree) Set(owner, rrtype string, ttl int, data ...string) error {
	z := t.zones[t.Origin(owner)]
	z.records = slices.DeleteFunc(z.records, func(r string) bool {
		fields := strings.Fields(r) // the type may follow a TTL
		return strings.EqualFold(fields[0], owner) && slices.Contains(fields[1:3], rrtype)
	})
	for i := range data {
		data[i] = fmt.Sprintf("%s %d %s %s", owner, ttl, rrtype, data[i])
	}
	return t.Add(data...)
}

// Add adds records to the zone that contains their owner: the owner with the final dot, perhaps a TTL, type and data.
func (t *Tree) Add(records ...string) error {
	for _, r := range records {
		owner, _, _ := strings.Cut(r, " ")
		if !dns.IsFqdn(owner) {
			return fmt.Errorf("zone: the owner has no final dot: %q", r)
		}
		z := t.zones[t.Origin(owner)]
		z.records = append(z.records, r)
	}
	return nil
}

// Origin returns the zone that holds owner.
func (t *Tree) Origin(owner string) (longest string) {
	for origin := range t.zones {
		if dns.IsSubDomain(origin, owner) && len(origin) > len(longest) {
			longest = origin
		}
	}
	return longest
}

// Write signs everything and writes one file per zone, named by File. Files are replaced atomically.
func (t *Tree) Write() error {
	for origin, z := range t.zones {
		file := filepath.Join(t.dir, File(origin))
		err := os.WriteFile(file+".new", []byte(t.text(z)), 0o644)
		if err == nil && z.State != Unsigned {
			err = z.sign(t.dir, file+".new")
		}
		if err == nil {
			err = os.Rename(file+".new", file)
		}
		if err != nil {
			return fmt.Errorf("zone: %s: %w", origin, err)
		}
	}
	return nil
}

// File is the name of a zone's file.
func File(origin string) string { return strings.Trim(origin, ".") + ".zone" }

// text returns the zone without signatures: its SOA and NS, its delegations and its records.
func (t *Tree) text(z *Zone) string {
	lines := []string{
		fmt.Sprintf("$TTL %d", ttl),
		fmt.Sprintf("%s SOA %s hostmaster.test. %d 3600 600 86400 %d", z.Origin, NameServer, time.Now().Unix(), ttl),
		fmt.Sprintf("%s NS %s", z.Origin, NameServer),
	}
	for origin, child := range t.zones {
		_, above, _ := strings.Cut(origin, ".")
		if origin == "." || t.Origin(above) != z.Origin {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s NS %s", origin, NameServer))
		switch child.State {
		case Unsigned:
		case WrongDS:
			digest := strings.LastIndex(child.ds, " ") + 1
			lines = append(lines, child.ds[:digest]+strings.Repeat("ab", 32))
		case Signed, Signed3, Expired:
			lines = append(lines, child.ds)
		}
	}
	return strings.Join(append(lines, z.records...), "\n") + "\n"
}

func (z *Zone) sign(dir, file string) error {
	const day = 86400 // seconds
	from, to := -day, day
	if z.State == Expired {
		from, to = -30*day, -2*day
	}
	// The one key signs everything, and the result is not checked: it may be bogus on purpose.
	args := []string{"-q", "-S", "-z", "-P", "-K", dir, "-d", dir, "-O", "full", "-o", z.Origin,
		"-s", fmt.Sprintf("now%+d", from), "-e", fmt.Sprintf("now%+d", to), "-f", file}
	if z.State == Signed3 {
		args = append(args, "-3", "-", "-H", "0") // RFC 9276 section 3.1
	}
	if _, err := run("dnssec-signzone", append(args, file)...); err != nil || z.Broken == nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var broken strings.Builder
	for line := range strings.Lines(string(text)) {
		// owner, TTL, IN, RRSIG, type, six numbers and a signer before the signature
		if f := strings.Fields(line); len(f) > 12 && f[3] == "RRSIG" && slices.Contains(z.Broken, f[0]+" "+f[4]) {
			signature := []byte(f[12])
			slices.Reverse(signature)
			f[12] = string(signature)
			line = strings.Join(f, " ") + "\n"
		}
		broken.WriteString(line)
	}
	return os.WriteFile(file, []byte(broken.String()), 0o644)
}
