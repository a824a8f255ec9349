// Package report has the result of policyd check about one domain, and the codes of its findings. Its JSON form is
// stable and described by docs/schema/check.json.
package report

import (
	"slices"
	"time"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/socketmap"
)

// Report has everything that is known about one domain.
type Report struct {
	Input    string    `json:"input"`  // the domain as it was given
	Domain   string    `json:"domain"` // the domain that is looked up, with A-labels and in lower case
	Verdict  string    `json:"verdict"`
	Checked  time.Time `json:"checked"`
	At       time.Time `json:"at"` // when the certificates must be valid
	Resolver Resolver  `json:"resolver"`

	DNSSEC string `json:"dnssec"` // the status of the MX RRset: secure, insecure, bogus or indeterminate
	RRset  RRset  `json:"mx_rrset"`
	Set    string `json:"set"` // all, mixed or none: how many of the MX hosts carry a prefix
	MX     []Host `json:"mx"`

	TLSPolicy    socketmap.Reply `json:"tls_policy"`
	Transport    socketmap.Reply `json:"transport"`
	Source       string          `json:"source"`
	Why          []string        `json:"why"`
	WhyTransport []string        `json:"why_transport"`

	MTASTS   STSPolicy `json:"mta_sts"`
	TLSRPT   TLSRPT    `json:"tlsrpt"`
	Findings []Finding `json:"findings"`
	Commands []string  `json:"commands"` // repeat the tests manually
	Nexthop  string    `json:"nexthop"`  // the domain once more, under the name that policyd query uses
}

// Exit returns the exit status for one domain: 0 if it is consistent, 1 for errors, 3 if it could not be tested.
func (r Report) Exit() int {
	switch {
	case slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error }):
		return 1
	case r.Verdict == VerdictUntested:
		return 3
	}
	return 0
}

// The verdicts.
const (
	VerdictKept     = "kept"
	VerdictBroken   = "broken"
	VerdictNone     = "none"     // no MX host carries a prefix
	VerdictPromised = "promised" // the promise was not tested, because of NoConnect
	VerdictUntested = "untested"
	VerdictNoMail   = "no-mail" // not a domain, a domain that does not exist, or one with a null MX
)

// Resolver is the result of the self-test of the DNS servers.
type Resolver struct {
	Servers []string `json:"servers"`
	Result  string   `json:"result"` // validating, not validating, echoes AD, not trusted or unknown
	Reason  string   `json:"reason,omitempty"`
}

// RRset is what is known about the MX RRset, except its hosts.
type RRset struct {
	State      string   `json:"state"`                // found, implicit (RFC 5321), null (RFC 7505), nxdomain or failed
	TTL        int      `json:"ttl"`                  // remaining TTL in seconds
	Alias      string   `json:"alias,omitempty"`      // the name at the end of the CNAME chain
	Duplicates []string `json:"duplicates,omitempty"` // hosts that are listed more than once
	// SignatureExpires is when the first of its signatures expires; omitted if that could not be determined.
	SignatureExpires *time.Time `json:"signature_expires,omitempty"`
	Error            string     `json:"error,omitempty"` // why the lookup failed
}

// Host is an MX host.
type Host struct {
	Host         string   `json:"host"`
	Preference   uint16   `json:"preference"`
	Prefix       string   `json:"prefix"`                  // starttls, smtps or none
	Valid        bool     `json:"valid"`                   // the name is a host name
	Alias        string   `json:"alias,omitempty"`         // the target of a CNAME
	A            string   `json:"a"`                       // the lookup: secure, insecure, bogus or indeterminate
	AAAA         string   `json:"aaaa"`                    // the same
	AddressError string   `json:"address_error,omitempty"` // why a lookup of addresses failed
	Addresses    []string `json:"addresses"`
	TLSA         TLSA     `json:"tlsa"`              // for port 25
	TLSA26       *TLSA    `json:"tlsa26,omitempty"`  // for the port of implicit TLS of an smtps- host
	MTASTS       *bool    `json:"mta_sts,omitempty"` // the MTA-STS policy allows the host; omitted without a policy
	// Connections are the tests, by address and port.
	Connections []Connection `json:"connections"`
}

// TLSA is the state of DANE for a host and port.
type TLSA struct {
	State   string   `json:"state"`             // usable, unusable, absent, unreachable, failed or unknown
	Records []string `json:"records,omitempty"` // as in a zone file
	// Matches reports whether a record matches every certificate that the host presented; omitted if none was seen, or
	// no record is usable.
	Matches *bool  `json:"matches,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Connection is the test of one address and port.
type Connection struct {
	Address  string `json:"address"`
	Port     uint16 `json:"port"`
	Implicit bool   `json:"implicit_tls"` // TLS from the first byte, otherwise STARTTLS
	Result   string `json:"result"`
	// Step and Cause are where it failed and why, in a few words; Why is a sentence.
	Step  string `json:"step,omitempty"`
	Cause string `json:"cause,omitempty"`
	Why   string `json:"why,omitempty"`

	Postfix     *smtptls.Opinion `json:"postfix,omitempty"` // omitted if Postfix was not asked
	Banner      string           `json:"banner,omitempty"`
	STARTTLS    string           `json:"starttls,omitempty"` // offered or missing, or the reply to it if not 220
	Protocol    string           `json:"protocol,omitempty"`
	Cipher      string           `json:"cipher,omitempty"`
	Certificate *Certificate     `json:"certificate,omitempty"`
	Dialogue    []string         `json:"dialogue,omitempty"` // with "C: " or "S: " before each line; only on request
}

// The results of a Connection.
const (
	ResultOK       = "ok"
	ResultFailed   = "failed"
	ResultUntested = "untested" // it could not be tested from here
	ResultSkipped  = "skipped"
)

// Certificate is the certificate that a host presented.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"`   // its DNS names
	Matched   string    `json:"matched"` // the name that matches the host, "" if none does
	Trusted   bool      `json:"trusted"` // a chain leads to a trusted root
	Chain     []string  `json:"chain"`   // the certificates on that chain, or those that the host sent
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"` // when the first certificate on the chain expires
	DaysLeft  int       `json:"days_left"` // days from Report.At to NotAfter; negative if it has expired
	Key       string    `json:"key"`
	Signature string    `json:"signature"`
}

// STSPolicy is the state of MTA-STS for a domain.
type STSPolicy struct {
	State string   `json:"state"`          // found, absent, failed, announced (the policy was not fetched) or unknown
	Mode  string   `json:"mode,omitempty"` // enforce, testing or none where the policy is found
	ID    string   `json:"id,omitempty"`
	MX    []string `json:"mx,omitempty"`
	Why   string   `json:"why,omitempty"` // the reason for the state
}

// TLSRPT is the record for reports about TLS (RFC 8460 section 3).
type TLSRPT struct {
	State  string `json:"state"` // found, absent, invalid or failed
	Record string `json:"record,omitempty"`
}

// Finding is a fact about a domain that matters, with a code that is stable and documented in policyd-check(1).
type Finding struct {
	Code      string   `json:"code"`
	Severity  Severity `json:"severity"`
	Host      string   `json:"host,omitempty"` // the host; empty for a finding about the domain
	Addresses []string `json:"addresses,omitempty"`
	Port      uint16   `json:"port,omitempty"`
	Text      string   `json:"text"`
	Untested  bool     `json:"untested,omitempty"` // it could not be tested, which says nothing about the domain
	Zone      []string `json:"zone,omitempty"`     // lines for a zone file, in hints
}

// Severity is what a finding means for mail.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // mail would be deferred
	Warning Severity = "warning" // weaker than claimed, or soon broken
	Info    Severity = "info"    // good to know
	Hint    Severity = "hint"    // what to publish
)
