package policy

import (
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/prefix"
)

// Nexthop is a next hop as Postfix names it in a TLS policy lookup.
type Nexthop struct {
	Name string // a valid host name: A-labels, lower case, no final dot
	Host bool   // the form [name]: the host itself, without an MX lookup
	Port uint16 // 25 or the port of implicit TLS
}

// String returns the next hop as Postfix would write it; port 25 is left out.
func (n Nexthop) String() string {
	s := n.Name
	if n.Host {
		s = "[" + s + "]"
	}
	if n.Port != prefix.SMTPPort {
		s += ":" + portText(n.Port)
	}
	return s
}

// ParseNexthop reads the key of an smtp_tls_policy_maps lookup, where port26 is the port of implicit TLS. It returns
// false for keys that are answered NOTFOUND without a DNS query: a parent domain, an address literal, another port, an
// e-mail address, anything that is not a host name.
func ParseNexthop(key string, port26 uint16) (n Nexthop, ok bool) {
	name, port, hasPort := strings.Cut(key, ":")
	n.Host = strings.HasPrefix(key, "[")
	if n.Host {
		name, port, ok = strings.Cut(key[1:], "]")
		port, hasPort = strings.CutPrefix(port, ":")
		if !ok || port != "" && !hasPort {
			return Nexthop{}, false
		}
	}
	n.Port = prefix.SMTPPort
	if hasPort && port != "smtp" {
		p, err := strconv.ParseUint(port, 10, 16)
		n.Port = uint16(p)
		if err != nil || n.Port == 0 || n.Port != prefix.SMTPPort && n.Port != port26 {
			return Nexthop{}, false
		}
	}
	n.Name, ok = ParseName(name)
	return n, ok
}

// ParseName returns a host name in the one form that is looked up and compared: A-labels (U-labels are converted by UTS
// 46, as Postfix does), lower case, no final dot. It returns false for a name that Postfix does not accept.
func ParseName(s string) (string, bool) {
	if len(s) > 4*255 { // a U-label takes at most four times the octets of its A-label
		return "", false
	}
	s, ok := dns.ToASCII(strings.TrimSuffix(s, "."))
	if !ok || !prefix.ValidHost(s) {
		return "", false
	}
	return strings.ToLower(s), true
}
