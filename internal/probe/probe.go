// Package probe tests in the background, independently of lookups, whether an smtps- host keeps its promise of implicit
// TLS (RFC 8314 section 3) on port 26, and remembers the verdict.
//
// A host is open if every address that answers at all on the port gives a TLS handshake, a certificate that verifies,
// a positive banner and a positive reply to EHLO. If the host has usable TLSA records for the port, one of them must
// match the certificate. Where Postfix's own TLS client is installed, it must verify the host too. A silent address
// next to a good one only costs Postfix a connect timeout. Any other answer closes the host; so do silence of all
// addresses, no address, more than MaxAddresses, and a special-purpose address among the addresses, in which case the
// probe does not connect. A failure on our side (an address lookup, no route, no file descriptor) is not a verdict: the
// previous one is valid until it expires, and the probe is repeated after 30 s, doubling to 10 minutes.
//
// Verdict reads and causes nothing. Want, for mail that is about to leave, makes a host due for a probe:
//
//   - An unknown host is due immediately.
//   - Each use of an open verdict is followed by a probe: immediately if the last one is at least a second old, six
//     times, and then once in four minutes. So the probe that finds the host closed is never later than Postfix's
//     first retry, 300 s after the delivery that failed (docs/decisions/0003-port-26-verdicts.md).
//   - A closed host is due after 10 minutes, doubling to 6 hours.
//   - An open verdict is valid for two hours, and never beyond the first expiry of a certificate on its path. A host
//     that is not wanted for a day is forgotten.
//   - Times are those of the system clock. A verdict from its future is not used.
//
// Remote parties choose the names and addresses of hosts. The numbers of known hosts and concurrent probes are bounded,
// and so are the connections per second, in total and to each /24 and /48. Hosts that were open are served first and
// forgotten last.
package probe

import (
	"cmp"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
)

// State reports whether port 26 of a host can be used.
type State string

// The states. Unknown, the zero value, is not used.
const (
	Unknown State = ""
	Closed  State = "closed"
	Open    State = "open"
)

// String returns the state in lower case.
func (s State) String() string { return cmp.Or(string(s), "unknown") }

// Verdict is what is known about port 26 of a host, in memory and on disk. The zero Verdict is Unknown.
type Verdict struct {
	State State         `json:"state"`
	Cause smtptls.Cause `json:"cause,omitempty"`
	// The probe ended at Checked, and the verdict is valid until Expires: an open one never outlives the certificate.
	Checked time.Time `json:"checked"`
	Expires time.Time `json:"expires"`
	Why     string    `json:"why"` // what the probe saw, in printable ASCII
}

// Entry is what is known about port 26 of a host, in the form that operators see. Its JSON form is stable.
type Entry struct {
	Host    string    `json:"host"`
	State   string    `json:"state"`           // open, closed or unknown
	Cause   string    `json:"cause,omitempty"` // why it is closed
	Checked time.Time `json:"checked,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Why     string    `json:"why,omitempty"` // what the probe saw
}
