package smtptls

import (
	"net/netip"
	"time"
)

// Step is a part of a dialogue.
type Step string

// The steps. StepNone is the zero value.
const (
	StepNone        Step = ""
	StepConnect     Step = "connect"
	StepBanner      Step = "banner"
	StepEHLO        Step = "EHLO"
	StepSTARTTLS    Step = "STARTTLS"
	StepTLS         Step = "TLS handshake"
	StepCertificate Step = "certificate"
	StepEHLOAgain   Step = "EHLO within TLS"
	StepQUIT        Step = "QUIT"
	StepPostfix     Step = "posttls-finger"
)

// Done is a step that was taken.
type Done struct {
	Step Step
	Took time.Duration
	// Err is why the step failed, nil if it did not.
	Err error
}

// Transcript is what a dialogue showed. The zero Transcript shows nothing.
type Transcript struct {
	Addr netip.AddrPort
	// Implicit is set where TLS came before the banner.
	Implicit bool
	Steps    []Done
	// Lines are the lines of the dialogue in printable ASCII, with "C: " or "S: " in front.
	Lines []string

	// Banner and EHLO are the first of their kind; STARTTLS is the reply to the command, and EHLOAgain the second EHLO
	// reply, within TLS, where there was STARTTLS.
	Banner, EHLO, STARTTLS, EHLOAgain Reply
	// Offered is set when the EHLO reply in plaintext offered STARTTLS.
	Offered bool
	// OfferedFirst is set when only the first line of that reply does, which is for the name of the server:
	// posttls-finger uses such an offer, and smtp(8) does not.
	OfferedFirst bool
	// Stray is set when plaintext followed the reply to STARTTLS: an attacker on the path may have put it there. It was
	// discarded (RFC 3207 section 4.2).
	Stray bool
	// Session is nil where there was no handshake.
	Session *Session
	// Postfix is what Postfix's own TLS client made of the address.
	Postfix Opinion

	// Failed is the first step that failed; StepNone if the server did all that was asked of it.
	Failed Step
	// Cause is why, in the words of a verdict; CauseNone where it is ours. STARTTLS that is not offered or refused
	// counts as Plaintext.
	Cause Cause
	// Ours is set when it failed on our side: there is no route, or no time left. It says nothing about the server.
	Ours bool
	// Why describes the failure, in printable ASCII. It does not name the address.
	Why string
}

// OK reports whether the server did all that was asked of it.
func (t *Transcript) OK() bool { return t.Failed == StepNone && len(t.Steps) > 0 }

// Silent reports whether the address did not answer the attempt to connect.
func (t *Transcript) Silent() bool { return t.Failed == StepConnect && t.Cause == Timeout }

// Connected reports whether the address accepted the connection.
func (t *Transcript) Connected() bool { return len(t.Steps) > 0 && t.Steps[0].Err == nil }
