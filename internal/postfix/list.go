package postfix

import (
	"fmt"
	"strings"
)

// list is one of Postfix's domain lists, as match_list(3) reads it: the first entry that matches decides.
type list struct {
	parameter string
	// parents is set if an entry example.com covers its subdomains (parent_domain_matches_subdomains).
	parents bool
	// below is set if an entry .example.com, or such a key in a table, covers the names below it.
	below bool
	// rest is set if a table may have the key * for all domains.
	rest    bool
	entries []entry
}

// entry is a name or a table.
type entry struct {
	text   string // a canonical name, or type:table
	table  bool
	negate bool
}

// asker looks up keys in a table and returns the first one that is found, "" for none.
type asker func(table string, keys []string) (string, error)

// match reports whether the list has a domain, and by which entry. A table that fails does not end the search, because a
// later entry may have the domain. Without such an entry the error is returned.
func (l list) match(domain string, ask asker) (own bool, by string, err error) {
	for _, e := range l.entries {
		found, covers := e.text, false
		if e.table {
			key, failed := ask(e.text, l.keys(e, domain))
			if failed != nil {
				if err == nil {
					err = failed
				}
				continue
			}
			found, covers = key+" in "+e.text, key != ""
		} else {
			covers = l.covers(e, domain)
		}
		if covers && e.negate {
			return false, "", err
		}
		if covers {
			return true, found, nil
		}
	}
	return false, "", err
}

// covers reports whether a name in the list covers a domain. An entry that excludes domains (!example.com) excludes as
// few as possible.
func (l list) covers(e entry, domain string) bool {
	if e.text == domain {
		return true
	}
	if e.negate {
		return false
	}
	if strings.HasPrefix(e.text, ".") {
		return strings.HasSuffix(domain, e.text)
	}
	return l.parents && strings.HasSuffix(domain, "."+e.text)
}

// keys returns the keys to look up in a table: the domain and, if the list covers subdomains and the table has fixed
// keys, its parent domains (access(5)).
func (l list) keys(e entry, domain string) []string {
	var keys []string
	if l.rest {
		keys = append(keys, "*")
	}
	for _, name := range forms(domain) {
		keys = append(keys, name)
		if e.negate || !l.parents && !l.below || patterns(e.text) {
			continue
		}
		for i := range len(name) {
			if name[i] != '.' {
				continue
			}
			if l.below {
				keys = append(keys, name[i:])
			}
			if l.parents {
				keys = append(keys, name[i+1:])
			}
		}
	}
	return keys
}

// patterns reports whether a table matches by pattern. Postfix looks up only the whole name in such a table, and a pattern
// for names without a dot would otherwise match every top-level domain. A combined table counts if one of its parts
// does.
func patterns(table string) bool {
	for _, t := range []string{"regexp:", "pcre:", "cidr:", "tcp:", "socketmap:"} {
		if strings.HasPrefix(strings.TrimPrefix(table, "proxy:"), t) {
			return true
		}
		for _, before := range []string{"{", " ", ",", "proxy:"} {
			if strings.Contains(table, "map:{") && strings.Contains(table, before+t) {
				return true
			}
		}
	}
	return false
}

// reader returns the contents of a file.
type reader func(path string) (string, error)

const (
	maxNesting = 4       // a file in a list may name files
	maxEntries = 500_000 // a site with more keeps them in a table
)

// parseEntries reads the text of a list. An entry may be a name, !entry, /file with more entries, or
// type:table.
func parseEntries(text string, read reader) ([]entry, error) {
	p := parser{read: read}
	return p.entries, p.add(text, false, 0)
}

type parser struct {
	read    reader
	entries []entry
}

func (p *parser) add(text string, negate bool, nesting int) error {
	comment := false
	for _, token := range tokens(text) {
		// Postfix warns and ignores the rest of the line. Here it counts, unless it excludes domains.
		comment = comment || token[0] == '#'
		e := entry{text: token, negate: negate}
		for strings.HasPrefix(e.text, "!") {
			e.text, e.negate = e.text[1:], !e.negate
		}
		if comment && e.negate {
			continue
		}
		switch {
		case e.text == "":
			return fmt.Errorf("no entry after \"!\"")
		case e.text[0] == '/':
			if err := p.include(e, nesting); err != nil {
				return err
			}
			continue
		case e.text[0] != '[' && strings.Contains(e.text, ":"):
			e.table = true
			// proxymap(8) may be down, or out of reach; the table is the same without it.
			e.text = strings.TrimPrefix(e.text, "proxy:")
		case strings.HasPrefix(e.text, "."):
			e.text = "." + canonical(e.text[1:])
		default:
			e.text = canonical(e.text)
		}
		if len(p.entries) >= maxEntries {
			return fmt.Errorf("more than %d entries: keep them in a table", maxEntries)
		}
		p.entries = append(p.entries, e)
	}
	return nil
}

// include reads a file of entries as Postfix does: lines that begin with # are comments.
func (p *parser) include(file entry, nesting int) error {
	if nesting >= maxNesting {
		return fmt.Errorf("%s: files nested too deep", file.text)
	}
	text, err := p.read(file.text)
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		if err := p.add(line, file.negate, nesting+1); err != nil {
			return err
		}
	}
	return nil
}

// tokens splits at commas and white space outside braces.
func tokens(text string) []string {
	var found []string
	start, depth := -1, 0
	for i := range len(text) {
		c := text[i]
		if depth == 0 && strings.IndexByte(" \t\r\n,", c) >= 0 {
			if start >= 0 {
				found = append(found, text[start:i])
				start = -1
			}
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		}
	}
	if start >= 0 {
		found = append(found, text[start:])
	}
	return found
}
