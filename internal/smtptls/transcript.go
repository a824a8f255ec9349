package smtptls

import (
	"net/netip"
	"time"
)

// Step is a part of a dialogue.
type Step uint8

// The steps. StepNone, the zero value, is none.
const (
	StepNone Step = iota
	StepConnect
	StepBanner
	StepEHLO
	StepSTARTTLS
	StepTLS
	StepCertificate
	StepEHLOAgain
	StepQUIT
)

// String returns the step for people.
func (s Step) String() string {
	return [...]string{"", "connect", "banner", "EHLO", "STARTTLS", "TLS handshake", "certificate", "EHLO within TLS", "QUIT"}[min(int(s), 8)]
}

// Done is a step that was taken.
type Done struct {
	Step Step
	Took time.Duration
	// Err is why it failed, nil if it did not.
	Err error
}

// Line is a line of the dialogue.
type Line struct {
	// Sent is set for what was sent; otherwise it was received.
	Sent bool
	// Text is printable ASCII.
	Text string
}

// Transcript is what a dialogue showed. The zero Transcript shows nothing.
type Transcript struct {
	Addr netip.AddrPort
	// Implicit is set where TLS came before the banner.
	Implicit bool
	// Began is when.
	Began time.Time
	Took  time.Duration
	Steps []Done
	Lines []Line

	// Banner and EHLO are the first of their kind; STARTTLS is the reply to the command, and EHLOAgain the
	// second EHLO reply, within TLS, where there was STARTTLS.
	Banner, EHLO, STARTTLS, EHLOAgain Reply
	// Offered is set when the EHLO reply in the clear offered STARTTLS.
	Offered bool
	// Stray is set when data in the clear came after the reply to STARTTLS: somebody on the path may have put
	// it there. It was thrown away (RFC 3207 section 4.2).
	Stray bool
	// Session is nil where there was no handshake.
	Session *Session

	// Failed is the first step that failed; StepNone if the host did all that was asked of it.
	Failed Step
	// Cause is why, in the words of a verdict. STARTTLS that is not offered or refused counts as Plaintext.
	Cause Cause
	// Silent is set when the address gave no answer to the attempt to connect.
	Silent bool
	// Ours is set when it failed on our side: there is no route, or there was no more time. It says nothing
	// about the host.
	Ours bool
	// Why says what failed, for people: printable ASCII. It does not name the address.
	Why string
}

// OK says whether the host did all that was asked of it.
func (t *Transcript) OK() bool { return t.Failed == StepNone && len(t.Steps) > 0 }

// Connected says whether the address took the connection.
func (t *Transcript) Connected() bool {
	return len(t.Steps) > 0 && t.Steps[0].Step == StepConnect && t.Steps[0].Err == nil
}
