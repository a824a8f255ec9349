package dns

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	miekg "github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// TrimRoot returns name without its final dot, unless that dot is escaped and so a part of the last label.
func TrimRoot(name string) string {
	if miekg.IsFqdn(name) {
		return name[:len(name)-1]
	}
	return name
}

// Lower is strings.ToLower for ASCII letters only. DNS folds no other letters (RFC 4343), and the lower case of some
// Unicode letters is an ASCII letter, which would make one name another. It does not allocate if nothing changes.
func Lower(name string) string {
	upper := func(r rune) bool { return 'A' <= r && r <= 'Z' }
	if !strings.ContainsFunc(name, upper) {
		return name
	}
	b := []byte(name)
	for i, c := range b {
		if upper(rune(c)) {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// Within returns a function that reports whether a name is at or below one of the domains, but never below the root.
func Within(domains ...string) func(name string) bool {
	return func(name string) bool {
		atOrBelow := func(d string) bool { return TrimRoot(d) != "" && miekg.IsSubDomain(d, name) }
		return slices.ContainsFunc(domains, atOrBelow)
	}
}

// Matching returns a function that reports whether a name matches a pattern of path.Match, if match contains one of *?[
// ("*" also matches dots, because names have no slashes), or else contains it.
func Matching(match string) func(name string) bool {
	match = Lower(TrimRoot(match))
	return func(name string) bool {
		if !strings.ContainsAny(match, "*?[") {
			return strings.Contains(name, match)
		}
		matched, err := path.Match(match, name)
		return matched && err == nil
	}
}

// ToASCII returns a name with A-labels in place of U-labels, by UTS 46 as Postfix does, or false if it cannot.
func ToASCII(name string) (ascii string, ok bool) {
	if strings.IndexFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return name, true
	}
	// The profile of idna.Lookup, except that it does not refuse underscores, hyphens in the third and fourth place and
	// labels of mixed direction: a name that Postfix would deliver to must not be answered NOTFOUND.
	profile := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false),
		idna.CheckHyphens(false))
	ascii, err := profile.ToASCII(name)
	return strings.TrimSuffix(ascii, "."), err == nil && utf8.ValidString(name)
}

// OnWire returns a name as it is read back from the wire: fully qualified, in lower case, and each octet written in the
// one way that answers use. It returns false if name is not a domain name.
func OnWire(name string) (fqdn string, ok bool) {
	var wire [255]byte // the longest name fits
	name = miekg.Fqdn(name)
	if _, ok := miekg.IsDomainName(name); !ok {
		return "", false
	}
	if len(name) < len(wire) && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" {
		return name, true // reading it back does not change these octets
	}
	n, err := miekg.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return "", false
	}
	name, _, err = miekg.UnpackDomainName(wire[:n], 0)
	return Lower(name), err == nil
}
