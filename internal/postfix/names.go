package postfix

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// canonical returns a name as it is compared: A-labels, lower case, no final dot. A name that cannot be converted
// stays as it is, in lower case. A dot in front stays.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return name
	}
	toASCII := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false),
		idna.CheckHyphens(false))
	if a, err := toASCII.ToASCII(name); err == nil {
		return strings.ToLower(a)
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

// localhost reports whether RFC 6761, section 6.3, reserves a name for this host, or Linux distributions have it in
// /etc/hosts.
func localhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "localhost.localdomain"
}

// plain returns an address as it is compared: without a zone, and not IPv4-mapped.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
