// Package probe finds out, away from any lookup, whether an smtps- host keeps its
// promise of implicit TLS (RFC 8314 section 3) on port 26, and remembers it.
//
// A host is open if every address of it that answers at all on the port gives a TLS
// handshake, a certificate that verifies, a 220 banner and a reply to EHLO. An address
// that is silent beside one that is right costs Postfix a moment; any other answer
// closes the host, and so does silence everywhere, no address, a special-purpose
// address among the others (nothing is then connected to), and more than
// MaxAddresses. What fails on our side (the address lookup, no route, no descriptor)
// is no verdict: the one before holds until it expires, and the probe is repeated
// after 30 s, doubling to 10 minutes.
//
// Verdict never waits; asking for a host is what has it probed:
//
//   - A host that is unknown is probed at once.
//   - Postfix has no way back from port 26 to 25 within a delivery. It asks again when it
//     tries a deferred message again, 300 s later at the earliest as it comes
//     (minimal_backoff_time), and must then be told what happened. It does not say
//     that a delivery failed. So each use of an open verdict is followed by a probe:
//     at once, six times, when the last one is a second old, and once in four minutes
//     after that. One that finds a failed delivery's host closed is never later than
//     the first retry. A host in constant use is probed far less often than mail goes
//     to it, and an hour after its last probe at the very latest; one that is not used
//     is left alone.
//   - A closed host is probed after 10 minutes, doubling to 6 hours, if somebody asks.
//   - An open verdict is believed for two hours, and never beyond the first expiry of a
//     certificate on its chain. A host that nobody asks for in a day is forgotten.
//   - Times are those of the clock on the wall; a verdict from its future is not believed.
//
// Strangers choose the hosts: smtpd(8) asks about every envelope sender. Hosts known,
// hosts waiting, probes at once, connections a second over all and to each /24 and
// /48 are bounded; hosts that were open are served first and forgotten last.
package probe

import (
	"time"

	"github.com/policyd/policyd/internal/smtptls"
)

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

// Verdict is what is known about port 26 of a host. The zero Verdict is Unknown.
type Verdict struct {
	State State
	Cause smtptls.Cause
	// Checked is when the probe ended; zero for Unknown.
	Checked time.Time
	// Expires is when the verdict is no longer believed: an open one never outlives
	// the host's certificate.
	Expires time.Time
	// Why says what the probe saw, for people: printable ASCII.
	Why string
}
