// Package dane applies DNS-Based Authentication of Named Entities (RFC 7672, RFC 6698, RFC 7671) to an MX
// host: its TLSA records authenticate it, require TLS, or do not exist.
//
// The order is that of RFC 7672 section 2.2: addresses before TLSA records, the CNAME-expanded name before the
// original. A lookup that fails is never treated as a denial.
package dane

import (
	"cmp"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// State is what is known about DANE for one host and port.
type State string

// The states. In Unknown, the zero value, nothing is known: mail must wait.
const (
	Unknown State = ""
	// Failed: the address or the TLSA lookup of the host failed, bogus or not. DANE may apply, so the host must not be
	// used (RFC 7672 section 2.1.2).
	Failed      State = "failed"
	Unreachable State = "unreachable" // the host has no address, or its name is not a host name
	// Absent: DANE does not apply: the addresses or the TLSA base domain are insecure, or there is securely no TLSA
	// RRset.
	Absent State = "absent"
	// Unusable: there is a secure TLSA RRset, and none of its records can be used: TLS is mandatory, and the
	// certificate is not checked (RFC 7672 section 2.2).
	Unusable State = "unusable"
	Usable   State = "usable" // at least one record can authenticate the host
)

// String returns the state, or "unknown".
func (s State) String() string { return cmp.Or(string(s), "unknown") }

// Query asks about one host.
type Query struct {
	Host    string // the name of the MX record, or of a next hop in brackets
	Port    uint16
	Effort  dns.Effort
	Timeout time.Duration // how long one question may take; 0 means as long as the caller's context allows
	// Signed is set for a host that is probably signed. One address family then decides: AAAA is asked for only if A
	// does not answer soon, fails, has no address, is insecure, or is an alias.
	Signed bool
}

// Result is what Lookup found. The zero Result is Unknown.
type Result struct {
	State State
	// Addresses is the security status of the address records from which the TLSA base domain follows; Indeterminate if
	// they could not be looked up, or there are none.
	Addresses dns.Status
	Records   []dns.TLSA // the TLSA records as they are, usable or not: shared, and not to be changed
	Err       error      // the failed lookup if State is Failed; in Unknown, dns.ErrNotCached
	Why       string     // explains the state in a few words of printable ASCII
}
