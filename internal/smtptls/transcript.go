package smtptls

import "net/netip"

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
	StepPostfix     Step = "posttls-finger"
)

// Cause says in a word or two why an address failed. It is shown to people and is a label of metrics.
type Cause string

// The causes. CauseNone, the zero value, is that of a dialogue that went well.
const (
	CauseNone          Cause = ""
	Refused            Cause = "refused"
	Timeout            Cause = "timeout"
	Plaintext          Cause = "plaintext"
	TLSHandshake       Cause = "tls handshake"
	CertificateName    Cause = "certificate name"
	CertificateChain   Cause = "certificate chain"
	CertificateExpired Cause = "certificate expired"
	CertificateRules   Cause = "certificate rules"  // Go accepts it, and OpenSSL, and so Postfix, refuses it
	RefusedByPostfix   Cause = "refused by postfix" // Postfix's own TLS client refuses it
	TLSAMismatch       Cause = "tlsa mismatch"      // no TLSA record of the host matches the certificate
	NotJudged          Cause = "not judged"         // Go cannot judge it and Postfix may accept it
	Banner             Cause = "banner"
	NoAddress          Cause = "no address"
	AddressNotAllowed  Cause = "address not allowed"
)

// Transcript is what a dialogue showed. The zero Transcript shows nothing.
type Transcript struct {
	Addr      netip.AddrPort
	Implicit  bool     // TLS came before the banner
	Connected bool     // the address accepted the connection
	Lines     []string // the lines of the dialogue in printable ASCII, with "C: " or "S: " in front

	Banner, EHLO Reply // the first of their kind
	STARTTLS     Reply // the reply to STARTTLS
	EHLOAgain    Reply // the reply to EHLO within TLS, where there was STARTTLS
	Offered      bool  // the EHLO reply in plaintext offers STARTTLS
	// OfferedFirst is set when only the first line of that reply does, which is for the name of the server:
	// posttls-finger uses such an offer, and smtp(8) does not.
	OfferedFirst bool
	// Stray is set when plaintext followed the reply to STARTTLS: an attacker on the path may have put it there. It was
	// discarded (RFC 3207 section 4.2).
	Stray   bool
	Session *Session // nil where there was no handshake
	Postfix Opinion  // what Postfix's own TLS client made of the address

	Failed Step // the first step that failed; StepNone if the server did all that was asked of it
	// Cause is why, in the words of a verdict; CauseNone for a local failure. STARTTLS that is not offered, or that is
	// refused, counts as Plaintext.
	Cause Cause
	Why   string // describes the failure in printable ASCII, without the address
}

// OK reports whether the server did all that was asked of it.
func (t *Transcript) OK() bool { return t.Failed == StepNone && t.Connected }

// LocalFailure reports whether the dialogue failed on our side: there is no route, or no time left. That says nothing
// about the server.
func (t *Transcript) LocalFailure() bool { return t.Failed != StepNone && t.Cause == CauseNone }

// Silent reports whether the address did not answer the attempt to connect.
func (t *Transcript) Silent() bool { return t.Failed == StepConnect && t.Cause == Timeout }
