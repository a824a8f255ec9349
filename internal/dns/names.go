package dns

import miekg "github.com/miekg/dns"

// TrimRoot returns name without its final dot, unless that dot is escaped and so a part of the last label.
func TrimRoot(name string) string {
	if miekg.IsFqdn(name) {
		return name[:len(name)-1]
	}
	return name
}

// Lower is strings.ToLower for ASCII letters only. DNS compares no others (RFC 4343), and Unicode has letters whose
// lower case is an ASCII letter, so that one name would become another. It does not allocate if nothing changes.
func Lower(name string) string {
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

// OnWire returns a name as it is read back from the wire: fully qualified, in lower case, and each octet written in the
// one way that answers use. It returns false if name is not a domain name.
func OnWire(name string) (fqdn string, ok bool) {
	var wire [255]byte // no name is longer
	name = miekg.Fqdn(name)
	if _, ok := miekg.IsDomainName(name); !ok {
		return "", false
	}
	n, err := miekg.PackDomainName(name, wire[:], 0, nil, false)
	if err != nil {
		return "", false
	}
	name, _, err = miekg.UnpackDomainName(wire[:n], 0)
	return Lower(name), err == nil
}
