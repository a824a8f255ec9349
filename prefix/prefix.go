// Package prefix reads the promise that the name of an MX host makes.
//
// The MX-prefix proposal for SMTP: a host whose first label begins with
// "starttls-" offers STARTTLS with a valid certificate on port 25; one whose
// first label begins with "smtps-" offers that and implicit TLS on port 26. It
// is the name in the RDATA of the MX record that counts, never the target of a
// CNAME. The list of prefixes is closed.
package prefix

import "strings"

// Class is the promise of a host name.
type Class uint8

// The classes. None, the zero value, promises nothing.
const (
	None Class = iota
	STARTTLS
	SMTPS
)

// String returns none, starttls or smtps.
func (c Class) String() string {
	switch c {
	case STARTTLS:
		return "starttls"
	case SMTPS:
		return "smtps"
	case None:
	}
	return "none"
}

// Of returns the promise of a host name in presentation format, in any case, with or without the final
// dot. After the prefix, letters, digits and hyphens must follow within the first label, not beginning
// or ending in a hyphen; only the first prefix counts. What is not a host name promises nothing.
func Of(host string) Class {
	host = strings.TrimSuffix(host, ".")
	label, _, _ := strings.Cut(host, ".")
	var c Class
	var rest string
	switch {
	case hasPrefixFold(label, "starttls-"):
		c, rest = STARTTLS, label[len("starttls-"):]
	case hasPrefixFold(label, "smtps-"):
		c, rest = SMTPS, label[len("smtps-"):]
	default:
		return None
	}
	if rest == "" || rest[0] == '-' || strings.IndexByte(rest, '_') >= 0 || !ValidHost(host) {
		return None
	}
	return c
}

// hasPrefixFold is strings.HasPrefix without regard to ASCII case; prefix is in lower case.
func hasPrefixFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// ValidHost reports whether Postfix would take s for a host name: labels of 1 to 63 letters, digits,
// hyphens and underscores, none beginning or ending in a hyphen, 253 octets at most, no final dot, and
// not digits alone, which would be an address (RFC 1123 section 2.1). Nothing else may reach a reply:
// an invalid host name in a route kills smtp(8).
func ValidHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	label, numeric := 0, true
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return false
			}
			label = 0
			continue
		case c == '-':
			if label == 0 {
				return false
			}
			numeric = false
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
			numeric = false
		default:
			return false
		}
		label++
		if label > 63 {
			return false
		}
	}
	return label > 0 && !numeric && s[len(s)-1] != '-'
}
