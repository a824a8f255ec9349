// Package mtasts reads the records and policies of SMTP MTA Strict Transport Security (RFC 8461), and fetches policies.
//
// A policy domain (the next hop, never an MX host) announces a policy with a TXT record at _mta-sts.<domain>, whose id
// changes when the policy does, and serves it at https://mta-sts.<domain>/.well-known/mta-sts.txt. A policy holds for
// its max_age after it was fetched; package stsstore keeps it for that long.
package mtasts

import (
	"cmp"
	"errors"
	"net/netip"
	"time"

	"github.com/policyd/policyd/internal/text"
)

// Mode is what a domain wants to happen when its policy is not met, RFC 8461 section 5.
type Mode string

// The modes. The zero value belongs to no policy.
const (
	None    Mode = "none"    // the domain wants to be treated as if it had no policy (section 8.3)
	Testing Mode = "testing" // failures are only reported
	Enforce Mode = "enforce" // never deliver to a host that does not match or does not verify
)

// Policy is a policy as its domain serves it, RFC 8461 section 3.2. It is shared between callers and must not be
// changed.
type Policy struct {
	Mode Mode
	// MaxAge is how long the policy holds from the moment it was fetched.
	MaxAge time.Duration
	// MX are the patterns for MX hosts, in lower case, each once, in the order of the policy: host names, or "*." and a
	// domain. It is empty only in mode none.
	MX []string
	// Raw are the lines of the policy, in order and with unknown fields, without line ends and trailing blanks: UTF-8
	// without control characters except tabs before a value. They are the policy-string of RFC 8460 section 4.4.
	Raw []string
}

// State is what is known about the policy of a domain.
type State string

// The states. In Unknown, the zero value, nothing is known, and mail must wait.
const (
	Unknown State = ""
	Absent  State = "absent" // the domain announces no usable policy, and none is live
	Found   State = "found"  // a policy is live; it may have mode none
	// Failed: the TXT record could not be looked up, or it was there and the policy could not be fetched, and none is
	// live. "Senders MUST continue with delivery as though the domain has not implemented MTA-STS" (RFC 8461 section
	// 3.3).
	Failed State = "failed"
)

// String returns the state in lower case, or "unknown".
func (s State) String() string { return cmp.Or(string(s), "unknown") }

// Failure is a result type of RFC 8460 section 4.3.2.2, for a report to the domain.
type Failure string

// The failures of a policy. The empty one reports nothing.
const (
	FetchError    Failure = "sts-policy-fetch-error" // the policy could not be retrieved
	PolicyInvalid Failure = "sts-policy-invalid"     // the host served something other than a valid policy
	WebPKIInvalid Failure = "sts-webpki-invalid"     // the certificate of the policy host did not verify
)

// Result is what a lookup found. The zero Result is Unknown.
type Result struct {
	Domain string // the policy domain, in lower case and without the final dot
	State  State
	// Policy, Fetched and Expires are set if State is Found, and ID is the id that the TXT record had when the policy
	// was fetched. If State is Failed, ID is the one whose policy could not be fetched.
	Policy           Policy
	ID               string
	Fetched, Expires time.Time
	RecordExpires    time.Time // when the TXT record or its denial expires; zero if the lookup failed
	// Stale is set if State is Found and the domain did not confirm the policy: the record is gone, or names a newer
	// policy that could not be fetched. The policy still holds (RFC 8461 sections 3.3 and 5.1).
	Stale bool
	// Failure is what to report if State is Failed because of a fetch. With a stale policy it is why the newer one
	// could not be fetched; it does not weaken the policy that holds.
	Failure Failure
	// Err is the cause if State is Unknown or Failed, or Stale is set. In Unknown it wraps dns.ErrNotCached if the
	// lookup may not make a query or fetch that it needs, the store's ErrBusy, or the error of the caller's context.
	Err error
	Why string // explains the state in a few words of printable ASCII
}

// Error is the error for a policy that could not be fetched.
type Error struct {
	Domain  string     // the policy domain
	Failure Failure    // how to report it
	Err     error      // the cause
	Addr    netip.Addr // the first address of the policy host that was tried; invalid if none was, or through a proxy
}

// Answered reports whether the policy host answered over verified HTTPS, so that the fault is not on the path to it.
func (e *Error) Answered() bool {
	_, answered := errors.AsType[answerError](e.Err)
	return answered || e.Failure == PolicyInvalid
}

// Error returns the domain, the result type and the cause in one line of printable ASCII.
func (e *Error) Error() string {
	const maxLength = 1000 // several addresses, each with what happened there
	return text.Line("mtasts: "+e.Domain+": "+string(e.Failure)+": "+e.Err.Error(), maxLength)
}

func (e *Error) Unwrap() error { return e.Err }
