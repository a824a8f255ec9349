package postfix

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"

	"github.com/policyd/policyd/prefix"
)

// canonical returns a name as it is compared: A-labels, lower case, no final dot. A name that cannot be converted
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

// forms returns the spellings of a domain that a table of Postfix may have: with A-labels and, if that differs, with
// U-labels (smtputf8_enable).
func forms(domain string) []string {
	u, err := idna.New(idna.StrictDomainName(false), idna.CheckHyphens(false)).ToUnicode(domain)
	if err != nil || u == domain || strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' }) {
		return []string{domain}
	}
	return []string{domain, u}
}

func hostname(name string) bool { return prefix.ValidHost(name) }

// withoutPrefix returns the name of a host without its prefix.
func withoutPrefix(name string) string {
	if c := prefix.Of(name); c != prefix.None {
		return strings.TrimPrefix(name, c.String()+"-")
	}
	return name
}

// localhost reports whether RFC 6761, section 6.3, reserves a name for this host, or Linux distributions have it in
// /etc/hosts.
func localhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "localhost.localdomain"
}

// plain returns an address as it is compared: without a zone, and not IPv4-mapped.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
