// Package report has the result of policyd check about one domain, and the codes of its findings. Its JSON form is
// stable and described by docs/schema/check.json.
package report

import (
	"slices"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// Report is what is known about one domain. Its JSON form is stable and described by docs/schema/check.json.
type Report struct {
	// Input is the domain as it was given, Domain as it is looked up: A-labels, lower case.
	Input  string `json:"input"`
	Domain string `json:"domain"`
	// Verdict is kept, broken, none (nothing is promised), promised (nothing was connected to, as was asked for),
	// no-mail (not a domain, a domain that does not exist, or one with a null MX) or untested.
	Verdict string `json:"verdict"`
	// Checked is when; At is the moment at which the certificates are measured.
	Checked time.Time `json:"checked"`
	At      time.Time `json:"at"`

	Resolver Resolver `json:"resolver"`
	// DNSSEC is the status of the MX RRset: secure, insecure, bogus or indeterminate.
	DNSSEC string `json:"dnssec"`
	RRset  RRset  `json:"mx_rrset"`
	// Set is all, mixed or none: how many of the MX hosts carry a prefix.
	Set string `json:"set"`
	MX  []Host `json:"mx"`

	TLSPolicy    socketmap.Reply `json:"tls_policy"`
	Transport    socketmap.Reply `json:"transport"`
	Source       string          `json:"source"`
	Why          []string        `json:"why"`
	WhyTransport []string        `json:"why_transport"`

	MTASTS STSPolicy `json:"mta_sts"`
	TLSRPT TLSRPT    `json:"tlsrpt"`

	Findings []Finding `json:"findings"`
	// Commands repeat the tests manually.
	Commands []string `json:"commands"`
	// Nexthop is the domain once more, under the name that policyd query uses.
	Nexthop string `json:"nexthop"`
}

// Exit is the exit status that fits: 0 consistent, 1 errors, 3 it could not be tested.
func (r Report) Exit() int {
	switch r.Verdict {
	case VerdictBroken:
		return 1
	case VerdictNoMail:
		if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error }) {
			return 1
		}
	case VerdictUntested:
		return 3
	}
	return 0
}

// The verdicts.
const (
	VerdictKept     = "kept"
	VerdictBroken   = "broken"
	VerdictNone     = "none"
	VerdictPromised = "promised"
	VerdictUntested = "untested"
	VerdictNoMail   = "no-mail"
)

// Resolver is the result of the self-test of the DNS servers.
type Resolver struct {
	Servers []string `json:"servers"`
	// Result is validating, not validating, echoes AD, not trusted or unknown.
	Result string `json:"result"`
	Reason string `json:"reason,omitempty"`
}

// RRset is the MX RRset beside its hosts.
type RRset struct {
	// State is found, implicit (RFC 5321 section 5.1), null (RFC 7505), nxdomain or failed.
	State string `json:"state"`
	// TTL is how many seconds the resolver keeps it yet.
	TTL int `json:"ttl"`
	// Alias is the name at the end of the CNAME chain, where there is one.
	Alias string `json:"alias,omitempty"`
	// Duplicates are hosts that are there more than once.
	Duplicates []string `json:"duplicates,omitempty"`
	// SignatureExpires is when the first of its signatures expires; omitted if that could not be determined.
	SignatureExpires *time.Time `json:"signature_expires,omitempty"`
	// Error says why the lookup failed.
	Error string `json:"error,omitempty"`
}

// Host is an MX host.
type Host struct {
	Host       string `json:"host"`
	Preference uint16 `json:"preference"`
	// Prefix is starttls, smtps or none.
	Prefix string `json:"prefix"`
	// Valid reports whether the name is a host name.
	Valid bool `json:"valid"`
	// Alias is the target of a CNAME, where there is one.
	Alias string `json:"alias,omitempty"`
	// A and AAAA are the states of the address lookups: secure, insecure, bogus or indeterminate.
	A    string `json:"a"`
	AAAA string `json:"aaaa"`
	// AddressError says why a lookup of addresses failed.
	AddressError string   `json:"address_error,omitempty"`
	Addresses    []string `json:"addresses"`
	// TLSA and TLSA26 are the TLSA records for port 25 and for the port of implicit TLS; the latter of smtps- hosts.
	TLSA   TLSA  `json:"tlsa"`
	TLSA26 *TLSA `json:"tlsa26,omitempty"`
	// MTASTS reports whether the domain's MTA-STS policy allows the host; not there without a policy.
	MTASTS *bool `json:"mta_sts,omitempty"`
	// Connections are the tests, by address and port.
	Connections []Connection `json:"connections"`
}

// TLSA is the state of DANE for a host and port.
type TLSA struct {
	// State is usable, unusable, absent, unreachable, failed or unknown.
	State string `json:"state"`
	// Records are the TLSA records as a zone file has them.
	Records []string `json:"records,omitempty"`
	// Matches reports whether a record matches the certificate that the host showed, everywhere; not there where
	// none was seen, or no record is usable.
	Matches *bool  `json:"matches,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Connection is the test of one address and port.
type Connection struct {
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	// Implicit is set for TLS from the first byte, otherwise it is STARTTLS.
	Implicit bool `json:"implicit_tls"`
	// Result is ok, failed, untested (it could not be tested from here) or skipped.
	Result string `json:"result"`
	// Step and Cause say where it failed and why, in a few words; Why says it in a sentence.
	Step  string `json:"step,omitempty"`
	Cause string `json:"cause,omitempty"`
	Why   string `json:"why,omitempty"`

	// Postfix is the verdict of Postfix's own TLS client; not there where it was not asked.
	Postfix *Postfix `json:"postfix,omitempty"`

	Banner string `json:"banner,omitempty"`
	// STARTTLS is offered or missing, or the reply to it where that is not 220.
	STARTTLS    string       `json:"starttls,omitempty"`
	Protocol    string       `json:"protocol,omitempty"`
	Cipher      string       `json:"cipher,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Steps       []Step       `json:"steps"`
	// Dialogue has what was said, "C: " and "S: " before each line, where it was asked for.
	Dialogue []string `json:"dialogue,omitempty"`
}

// Postfix is what posttls-finger(1) made of an address and port.
type Postfix struct {
	// Verdict is verified, rejected, no service (verified, and EHLO refused) or no verdict.
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
}

// The results of a Connection.
const (
	ResultOK       = "ok"
	ResultFailed   = "failed"
	ResultUntested = "untested"
	ResultSkipped  = "skipped"
)

// Step is a step of a dialogue and how long it took.
type Step struct {
	Step         string  `json:"step"`
	Milliseconds float64 `json:"ms"`
	Error        string  `json:"error,omitempty"`
}

// Certificate is the certificate that a host showed.
type Certificate struct {
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	// Names are its DNS names; Matched is the one that is for the host, "" if none is.
	Names   []string `json:"names"`
	Matched string   `json:"matched"`
	// Trusted reports whether a chain leads to a trusted root, Chain names what is on it, or what the host sent.
	Trusted bool     `json:"trusted"`
	Chain   []string `json:"chain"`
	// NotBefore is its own; NotAfter is that of the first certificate on the chain to expire. DaysLeft are
	// counted from the moment that the report is about, and negative where it has passed.
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"`
	Key       string    `json:"key"`
	Signature string    `json:"signature"`
}

// STSPolicy is the state of MTA-STS for a domain.
type STSPolicy struct {
	// State is found, absent, failed, announced (the policy was not fetched) or unknown.
	State string `json:"state"`
	// Mode is enforce, testing or none where the policy is found.
	Mode string   `json:"mode,omitempty"`
	ID   string   `json:"id,omitempty"`
	MX   []string `json:"mx,omitempty"`
	// Why is the reason for the state.
	Why string `json:"why,omitempty"`
}

// TLSRPT is the record for reports about TLS (RFC 8460 section 3).
type TLSRPT struct {
	// State is found, absent, invalid or failed.
	State  string `json:"state"`
	Record string `json:"record,omitempty"`
}

// Finding is something to know about a domain, with a code that is stable and documented in policyd-check(1).
type Finding struct {
	Code string `json:"code"`
	// Severity is error, warning, info or hint.
	Severity Severity `json:"severity"`
	// Host, Addresses and Port are what it is about; empty for the domain.
	Host      string   `json:"host,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Port      uint16   `json:"port,omitempty"`
	Text      string   `json:"text"`
	// Untested is set where something could not be tested: that says nothing about the domain.
	Untested bool `json:"untested,omitempty"`
	// Zone has lines for a zone file, of hints.
	Zone []string `json:"zone,omitempty"`
}

// Severity says what a finding means for mail.
type Severity string

// The severities: mail would be deferred; weaker than claimed, or soon broken; good to know; what to publish.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
	Hint    Severity = "hint"
)
