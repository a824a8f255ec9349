package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/policyd/policyd/prefix"
)

// SMTPPort is where mail goes unless a transport says otherwise, RFC 5321
// section 4.5.4.2.
const SMTPPort = 25

// Nexthop is a next hop as Postfix names it in a TLS policy lookup.
type Nexthop struct {
	// Name is a valid host name: A-labels, lower case, no final dot.
	Name string
	// Host is set for the form [name]: no MX lookup, this very host.
	Host bool
	// Port is SMTPPort or the port of implicit TLS.
	Port uint16
}

// String returns the next hop as Postfix would write it; port 25 is left out.
func (n Nexthop) String() string {
	s := n.Name
	if n.Host {
		s = "[" + s + "]"
	}
	if n.Port != SMTPPort {
		s += ":" + strconv.Itoa(int(n.Port))
	}
	return s
}

// Mangled over-long keys are turned away before they cost anything. A U-label
// takes at most four times the room of its A-label.
const maxKey = 4 * 255

// ParseNexthop reads the key of an smtp_tls_policy_maps lookup, where implicit
// TLS is spoken on port26. It returns false for what is no next hop of ours: a
// parent-domain key, an address literal, another port, an e-mail address, not a
// host name. Those are answered NOTFOUND without a DNS query.
func ParseNexthop(key string, port26 uint16) (Nexthop, bool) {
	if len(key) > maxKey {
		return Nexthop{}, false
	}
	n := Nexthop{Port: SMTPPort}
	var name, port string
	var hasPort bool
	if strings.HasPrefix(key, "[") {
		var rest string
		var closed bool
		name, rest, closed = strings.Cut(key[1:], "]")
		if !closed {
			return Nexthop{}, false
		}
		n.Host = true
		if rest != "" {
			if rest[0] != ':' {
				return Nexthop{}, false
			}
			port, hasPort = rest[1:], true
		}
	} else {
		name, port, hasPort = strings.Cut(key, ":")
	}
	var ok bool
	if hasPort {
		if n.Port, ok = parsePort(port); !ok || n.Port != SMTPPort && n.Port != port26 {
			return Nexthop{}, false
		}
	}
	n.Name, ok = ParseName(name)
	return n, ok
}

// parsePort reads a port as Postfix writes it in a next hop: digits, or the
// service name smtp.
func parsePort(s string) (uint16, bool) {
	if s == "smtp" {
		return SMTPPort, true
	}
	if strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	p, err := strconv.ParseUint(s, 10, 16)
	return uint16(p), err == nil && p != 0
}

// ParseRecipient reads the key of a transport_maps lookup, a recipient address
// or a bare domain, and returns the domain as a next hop by MX on port 25. The
// local part is dropped unread. It returns false for what has no domain to look
// up: "*", an address literal, not a host name.
func ParseRecipient(key string) (Nexthop, bool) {
	domain := key[strings.LastIndexByte(key, '@')+1:]
	if len(domain) > maxKey {
		return Nexthop{}, false
	}
	name, ok := ParseName(domain)
	return Nexthop{Name: name, Port: SMTPPort}, ok
}

// ParseName returns a host name in the one form that is looked up and compared:
// A-labels (U-labels are converted by UTS 46, as Postfix does), lower case, no
// final dot. Underscores are let through: DNS has them and Postfix too. It
// returns false for what Postfix would not take for a host name.
func ParseName(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if ascii(s) {
		if !prefix.ValidHost(s) {
			return "", false
		}
		return strings.ToLower(s), true
	}
	// The profile of idna.Lookup without its refusal of underscores, of hyphens in
	// the third and fourth place and of mixed-direction labels: what Postfix would
	// deliver to must not be answered NOTFOUND.
	toASCII := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false))
	a, err := toASCII.ToASCII(s)
	if err != nil || !utf8.ValidString(s) {
		return "", false
	}
	a = strings.TrimSuffix(strings.ToLower(a), ".")
	return a, ascii(a) && prefix.ValidHost(a)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
