package resolver

import (
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// trimRoot takes off the final dot, unless it is escaped and thus part of the last label.
func trimRoot(name string) string {
	if dns.IsFqdn(name) {
		return name[:len(name)-1]
	}
	return name
}

// lower is strings.ToLower for ASCII alone: DNS knows no other letters, and Unicode has some of which the
// small form is an ASCII letter, so that one name would become another. It does not allocate where there
// is nothing to do.
func lower(name string) string {
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			b := []byte(name)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return name
}

// onWire returns a name as it comes back from the wire: fully qualified, in lower case, each octet spelt in
// the one way that answers have it. It returns false for what is not a domain name.
func onWire(name string) (fqdn string, ok bool) {
	const longest = 255
	var wire [longest]byte
	name = dns.Fqdn(name)
	if _, ok := dns.IsDomainName(name); !ok {
		return "", false
	}
	n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return "", false
	}
	name, _, err = dns.UnpackDomainName(wire[:n], 0)
	return lower(name), err == nil
}

// hostName is a name from the wire as RRset has names.
func hostName(name string) string { return trimRoot(lower(name)) }

// unescape undoes the escapes that the library puts into TXT data.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}
