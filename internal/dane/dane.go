// Package dane finds out what DNS-Based Authentication of Named Entities says of
// an MX host, RFC 7672 (RFC 6698, RFC 7671): whether its TLSA records
// authenticate it, oblige to TLS, or do not exist.
//
// The order is that of RFC 7672 section 2.2: addresses before TLSA records,
// the CNAME-expanded name before the original, and a lookup that fails is
// never taken for a denial.
package dane

import (
	"github.com/policyd/policyd/internal/dns"
)

// State says what is known about DANE for one host and port.
type State uint8

// The states. In Unknown, the zero value, nothing is known: mail must wait.
const (
	Unknown State = iota
	// Failed: the address or the TLSA lookup of the host failed, bogus or not. DANE may apply, so
	// the host must not be used (RFC 7672 section 2.1.2).
	Failed
	// Unreachable: the host has no address, or its name is not a host name.
	Unreachable
	// Absent: it is known that DANE does not apply: the addresses or the TLSA
	// base domain are insecure, or there is securely no TLSA RRset.
	Absent
	// Unusable: there is a secure TLSA RRset, and none of its records can be used:
	// TLS is mandatory, the certificate is not looked at (RFC 7672 section 2.2).
	Unusable
	// Usable: at least one record can authenticate the host.
	Usable
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Failed:
		return "failed"
	case Unreachable:
		return "unreachable"
	case Absent:
		return "absent"
	case Unusable:
		return "unusable"
	case Usable:
		return "usable"
	case Unknown:
	}
	return "unknown"
}

// Query asks about one host.
type Query struct {
	// Host is the name of the MX record, or of a next hop in brackets.
	Host string
	Port uint16
	// Effort is passed on to the resolver.
	Effort dns.Effort
	// Waits says that lookups take time, so that A and AAAA are looked up side by side. A resolver that never waits
	// is asked by one goroutine.
	Waits bool
}

// Result is what Lookup found. The zero Result is Unknown.
type Result struct {
	State State
	// Addresses is the security status of the address records, the better one where
	// A and AAAA differ; Indeterminate if they could not be looked up, or there are none.
	Addresses dns.Status
	// Base is the TLSA base domain of the records, "" if there are none.
	Base string
	// Records are the TLSA records as they are, usable or not. They are shared and must
	// not be changed.
	Records []dns.TLSA
	// Err is the failed lookup when State is Failed.
	Err error
	// Why says the same in a few words for people: printable ASCII.
	Why string
}
