// Package probe finds out, away from any lookup, whether an smtps- host keeps its
// promise of implicit TLS (RFC 8314 section 3) on port 26, and remembers it.
package probe

import "time"

// State says whether port 26 of a host can be used.
type State uint8

// The states. Unknown, the zero value, is not used.
const (
	Unknown State = iota
	Closed
	Open
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Closed:
		return "closed"
	case Unknown:
	}
	return "unknown"
}

// Cause says why a host is closed.
type Cause uint8

// The causes.
const (
	CauseNone Cause = iota
	Refused
	Timeout
	Plaintext
	TLSHandshake
	CertificateName
	CertificateChain
	CertificateExpired
	Banner
	NoAddress
	AddressNotAllowed
)

// String returns the cause in words, "" for CauseNone.
func (c Cause) String() string {
	return [...]string{"", "refused", "timeout", "plaintext", "tls handshake", "certificate name", "certificate chain",
		"certificate expired", "banner", "no address", "address not allowed"}[min(int(c), 10)]
}

// Verdict is what is known about port 26 of a host. The zero Verdict is Unknown.
type Verdict struct {
	State State
	Cause Cause
	// Checked is when the probe ended; zero for Unknown.
	Checked time.Time
	// Expires is when the verdict is no longer believed: an open one never outlives
	// the host's certificate.
	Expires time.Time
	// Why says what the probe saw, for people: printable ASCII.
	Why string
}
