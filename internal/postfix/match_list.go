package postfix

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"github.com/policyd/policyd/internal/dns"
)

// matchList is one of Postfix's domain lists, as match_list(3) reads it. Domains that an entry excludes (!example.com)
// count as received here.
type matchList struct {
	parameter string
	at        Commands // the commands of the instance that has the list
	parents   bool     // an entry example.com covers its subdomains (parent_domain_matches_subdomains)
	below     bool     // a key .example.com in a table covers the names below it
	wildcard  bool     // a table may have the key * for all domains
	names     []string // canonical; with a dot in front for all names below
	tables    []string // type:table
}

// name returns the name in the list that covers a domain, "" if none does.
func (l *matchList) name(domain string) string {
	for _, name := range l.names {
		if name == domain || strings.HasPrefix(name, ".") && strings.HasSuffix(domain, name) ||
			l.parents && strings.HasSuffix(domain, "."+name) {
			return name
		}
	}
	return ""
}

// keys returns the keys to look up in a table: the domain and, if the list covers subdomains, its parent domains
// (access(5)). In a table of patterns that is only the whole name, as in Postfix: a pattern for names without a dot
// would otherwise match every top-level domain.
func (l *matchList) keys(table, domain string) []string {
	var keys []string
	if l.wildcard {
		keys = append(keys, "*")
	}
	for _, name := range spellings(domain) {
		keys = append(keys, name)
		for i := range len(name) {
			dot := name[i] == '.' && !matchesByPattern(table)
			if dot && l.below {
				keys = append(keys, name[i:])
			}
			if dot && l.parents {
				keys = append(keys, name[i+1:])
			}
		}
	}
	return keys
}

// matchesByPattern reports whether a table has patterns, or is a server that can match by pattern.
func matchesByPattern(table string) bool {
	kind, _, _ := strings.Cut(strings.TrimPrefix(table, "proxy:"), ":")
	return slices.Contains([]string{"regexp", "pcre", "cidr", "tcp", "socketmap"}, kind)
}

// add reads the text of a list: names, type:table, and /file with more entries, one or more per line, which read
// returns.
func (l *matchList) add(text string, nesting int, read func(path string) (string, error)) error {
	const maxNesting = 4 // of files that include files
	for _, token := range Tokens(text) {
		switch {
		case strings.HasPrefix(token, "!"):
		case strings.HasPrefix(token, "/"):
			if nesting == maxNesting {
				return fmt.Errorf("%s: files nested too deep", token)
			}
			text, err := read(token)
			if err != nil {
				return err
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(strings.TrimSpace(line), "#") {
					continue
				}
				if err := l.add(line, nesting+1, read); err != nil {
					return err
				}
			}
		case token[0] != '[' && strings.Contains(token, ":"):
			l.tables = append(l.tables, strings.TrimPrefix(token, "proxy:"))
		default:
			l.names = append(l.names, canonical(token))
		}
	}
	return nil
}

// Tokens splits a list of main.cf at commas and white space outside braces.
func Tokens(text string) []string {
	depth, b := 0, []byte(text)
	for i, c := range b {
		switch {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(" \t\r\n,", c) >= 0:
			b[i] = 0
		}
	}
	return strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 })
}

// InlineEntries returns the entries of an inline table of regular expressions, regexp:{ ... }, and false for any other
// table.
func InlineEntries(table string) (entries []string, ok bool) {
	inside, ok := strings.CutPrefix(table, "regexp:{")
	return Tokens(strings.TrimSuffix(inside, "}")), ok
}

// canonical returns a name as it is compared: A-labels, lower case, no final dot. A name that cannot be converted
// stays as it is, in lower case. A dot in front stays.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if a, ok := dns.ToASCII(name); ok {
		return strings.ToLower(a)
	}
	return name
}

// spellings returns the spellings of a domain that a table of Postfix may have: with A-labels and, if that differs,
// with U-labels (smtputf8_enable).
func spellings(domain string) []string {
	u, err := idna.New(idna.StrictDomainName(false), idna.CheckHyphens(false)).ToUnicode(domain)
	if err != nil || u == domain || strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' }) {
		return []string{domain}
	}
	return []string{domain, u}
}

// isLocalhost reports whether RFC 6761, section 6.3, reserves a name for this host, or Linux distributions have it in
// /etc/hosts.
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || name == "localhost.localdomain"
}

// plain returns an address as it is compared: without a zone, and not IPv4-mapped.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
