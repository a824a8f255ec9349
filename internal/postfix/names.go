package postfix

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"

	"github.com/policyd/policyd/prefix"
)

// canonical returns a name as it is compared: A-labels, lower case, no final dot. What cannot be converted
// stays as it is, in lower case.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for i := range len(name) {
		if name[i] >= 0x80 {
			toASCII := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))
			if a, err := toASCII.ToASCII(name); err == nil {
				return strings.ToLower(a)
			}
			return name
		}
	}
	return name
}

// forms returns the spellings of a domain that a table of Postfix may have it under: with A-labels and,
// where that differs, with U-labels (smtputf8_enable).
func forms(domain string) []string {
	u, err := idna.New(idna.StrictDomainName(false), idna.CheckHyphens(false)).ToUnicode(domain)
	if err != nil || u == domain || strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' }) {
		return []string{domain}
	}
	return []string{domain, u}
}

func hostname(name string) bool { return prefix.ValidHost(name) }

// withoutPrefix returns what a prefixed host is called without its prefix, other names as they are.
func withoutPrefix(name string) string {
	if c := prefix.Of(name); c != prefix.None {
		return strings.TrimPrefix(name, c.String()+"-")
	}
	return name
}

// localhost covers what RFC 6761 section 6.3 reserves, and the name that Linux distributions have in /etc/hosts.
func localhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "localhost.localdomain"
}

// plain returns an address as it is compared: no zone, no IPv4-mapped form.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// domains is a set of domains and of .domains, which stand for all names below.
type domains struct{ set map[string]bool }

// add takes example.com or .example.com. It returns false for what is no domain.
func (d *domains) add(text string) bool {
	rest, below := strings.CutPrefix(text, ".")
	name := canonical(rest)
	if !hostname(name) {
		return false
	}
	if below {
		name = "." + name
	}
	if d.set == nil {
		d.set = map[string]bool{}
	}
	d.set[name] = true
	return true
}

// match returns the entry that covers a name, "" for none.
func (d *domains) match(name string) string {
	if d.set[name] {
		return name
	}
	for i := range len(name) {
		if name[i] == '.' && d.set[name[i:]] {
			return name[i:]
		}
	}
	return ""
}
