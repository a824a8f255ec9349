package lookup

import "strings"

// The maps.
const (
	tlsPolicy       = "tls-policy"
	tlsPolicyTLSRPT = "tls-policy-tlsrpt"
	transport       = "transport"
)

// mapNames returns the names under which the maps are served, in the order in which they are shown, each with the map
// that it stands for. QUERY and QUERYwithTLSRPT are the names of postfix-tlspol, sts is that of Sendmail's
// FEATURE(sts).
func mapNames() [6][2]string {
	return [...][2]string{
		{tlsPolicy, tlsPolicy}, {tlsPolicyTLSRPT, tlsPolicyTLSRPT}, {transport, transport},
		{"QUERY", tlsPolicy}, {"QUERYwithTLSRPT", tlsPolicyTLSRPT}, {"sts", tlsPolicy},
	}
}

// CanonicalMap returns the map, one of three, that a name stands for whatever its case, and "" for an unknown name.
func CanonicalMap(name string) string {
	for _, m := range mapNames() {
		if strings.EqualFold(name, m[0]) {
			return m[1]
		}
	}
	return ""
}
