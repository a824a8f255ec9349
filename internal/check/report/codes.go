package report

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/prefix"
)

// Code documents the code of a finding.
type Code struct {
	Code     string
	Severity Severity
	Untested bool   // the finding is that something could not be tested
	Meaning  string // a sentence for policyd-check(1)
}

// Codes returns all codes, in the order of the manual page. Errors about a host without a prefix, which has
// promised nothing, are shown as info.
func Codes() []Code {
	var prefixes []string
	for _, c := range prefix.Classes() {
		prefixes = append(prefixes, c.Prefix())
	}
	codes := []Code{
		{"not-a-domain", Error, false, "The input is not a domain name."},
		{"no-such-domain", Error, false, "The domain does not exist (NXDOMAIN)."},
		{"mx-bogus", Error, false, "The MX RRset fails DNSSEC validation: every validating sender defers."},
		{"mx-lookup-failed", Info, true, "The MX lookup failed."},
		{"resolver-not-validating", Info, true, "The resolver does not validate, or is not trusted: signed zones " +
			"cannot be distinguished from unsigned ones."},
		{"null-mx", Info, false, "The domain accepts no mail (RFC 7505)."},
		{"mx-implicit", Info, false,
			"There is no MX RRset: the domain itself is its mail host, and carries no promise (RFC 5321 section 5.1)."},
		{"mx-alias", Info, false, "The domain is a CNAME: the MX RRset is that of its target."},
		{"mx-duplicate", Warning, false, "A host is listed more than once."},
		{"mx-too-many", Warning, false, "More than 32 MX hosts: the others are ignored, and the set counts as mixed."},
		{"mx-unsigned", Warning, false, "The MX RRset is not signed: anyone who can forge DNS can hide the promise."},
		{"mx-signature-expires", Warning, false, "The signature of the MX RRset expires within two days."},
		{"mx-host-invalid", Warning, false, "The name of an MX host is not a host name: senders cannot connect to it."},
		{"mx-host-alias", Warning, false, "An MX host is a CNAME, which RFC 2181 section 10.3 forbids. The " +
			"certificate must be for the name in the MX record."},
		{"prefix-malformed", Warning, false, "The name of an MX host resembles a prefix but does not count as one: " +
			"after " + strings.Join(prefixes, " or ") + " a letter or digit must follow within the first label."},
		{"mx-address-limit", Warning, false, "Five or more addresses of MX hosts that the policy does not allow come " +
			"before the first host that it allows. Postfix tries five addresses by default (smtp_mx_address_limit), " +
			"so that mail waits until it bounces. Give the promising hosts the better preference."},
		{"no-promise", Info, false, "No MX host carries a prefix: their names promise nothing."},
		{"set-mixed", Warning, false, "Only some MX hosts carry a prefix: unless DANE decides, mail goes only " +
			"through those hosts."},
		{"host-no-address", Error, false, "The host has no address."},
		{"host-address-bogus", Error, false, "The addresses of the host fail DNSSEC validation."},
		{"host-lookup-failed", Info, true, "The addresses of the host could not be looked up."},
		{"address-special", Warning, false, "An address does not belong to the public Internet."},
		{"address-too-many", Warning, false, "The host has more than 16 addresses: the others are not tested, and " +
			"policyd does not use its port of implicit TLS."},
		{"address-silent", Warning, false, "An address does not answer, but others of the host do: senders lose time."},
		{"address-unreachable", Info, true,
			"An address cannot be reached from here: there is no route to it (for example, no IPv6), something else " +
				"failed on our side, or neither this address nor any other of its family has answered."},
		{"port25-starttls-missing", Error, false, "Port 25 does not offer STARTTLS."},
		{"port25-starttls-first-line", Warning, false,
			"Only the first line of the EHLO reply, which contains the name of the server, offers STARTTLS. " +
				"posttls-finger uses such an offer; smtp(8) of Postfix does not see it and defers the mail."},
		{"port25-starttls-refused", Error, false, "Port 25 offers STARTTLS and refuses it."},
		{"port25-starttls-injection", Warning, false,
			"Plaintext followed the reply to STARTTLS: an attacker on the path may have put it there."},
		{"port25-ehlo-in-tls", Error, false, "Port 25 does not accept EHLO after the handshake."},
		{"port26-plaintext", Error, false, "The port of implicit TLS speaks in plaintext."},
		{"-untested", Info, true, "%s could not be tested from here: it has not answered at any address, and may be " +
			"filtered on our side, or an option excluded all its addresses."},
		{"-timeout", Error, false, "%s does not answer, although it does at other addresses from here."},
		{"-refused", Error, false, "%s refuses connections."},
		{"-banner", Error, false, "%s does not greet with 220."},
		{"-ehlo", Error, false, "%s does not accept EHLO."},
		{"-tls-handshake", Error, false, "%s cannot complete the TLS handshake."},
		{"-certificate-chain", Error, false, "%s presents a certificate that does not lead to a trusted root."},
		{"-certificate-expired", Error, false, "%s presents a certificate that has expired, or is not valid yet."},
		{"-certificate-name", Error, false, "%s presents a certificate that lacks the MX host name with its prefix."},
		{"-certificate-rules", Error, false, "%s presents a certificate that breaks a rule of OpenSSL, so Postfix " +
			"refuses it. policyd detected this itself, without posttls-finger."},
		{"-postfix", Error, false, "%s is refused by the TLS client of Postfix, as posttls-finger reports."},
		{"-disputed", Warning, false, "%s presents a certificate that Postfix verifies and policyd does not: another " +
			"sender may refuse it, and policyd does not use port 26 of the host."},
		{"-not-judged", Info, true, "%s cannot be judged from here: policyd does not speak the TLS of the host, or " +
			"does not know a rule for its certificate. Postfix may deliver."},
		{"certificate-expires-soon", Warning, false, "A certificate expires within 14 days."},
		{"certificate-weak", Warning, false, "The key of a certificate has fewer than 2048 (RSA) or 256 bits (ECDSA)."},
		{"cipher-weak", Warning, false, "The cipher has no forward secrecy."},
		{"dane-mismatch", Error, false, "No usable TLSA record matches the certificate: senders that use DANE defer."},
		{"dane-bogus", Error, false, "The TLSA records fail DNSSEC validation: senders that support DANE defer."},
		{"dane-lookup-failed", Info, true, "The TLSA records could not be looked up."},
		{"dane-unusable", Warning, false, "There are TLSA records, but none of them can be used."},
		{"dane-missing-26", Warning, false, "There are TLSA records for port 25 but none for the port of implicit " +
			"TLS: senders that support DANE stay on port 25."},
		{"mta-sts-excludes-all", Error, false,
			"The MTA-STS policy is enforced and allows no MX host: senders that support MTA-STS defer."},
		{"mta-sts-excludes-host", Warning, false, "The MTA-STS policy does not allow an MX host."},
		{"mta-sts-invalid", Warning, false, "The announced MTA-STS policy cannot be fetched or is not valid."},
		{"mta-sts-testing", Info, false, "The MTA-STS policy is in testing mode."},
		{"tlsrpt-invalid", Warning, false, "The TLSRPT record is not valid (RFC 8460 section 3)."},
		{"tested-partly", Info, false, "Not everything was tested, because an option excluded some tests."},
		{"promise-kept", Info, false, "The promise is kept at every address that was tested."},
		{"publish-prefix", Hint, false, "The hosts already do what a prefix would promise. Add the new names to the " +
			"certificates and to the MTA-STS policy if there is one, and then publish them."},
		{"publish-tlsa-26", Hint, false, "Publish TLSA records for the port of implicit TLS as well."},
		{"publish-tlsrpt", Hint, false, "Ask senders to report TLS failures to you."},
	}
	var all []Code
	for _, c := range codes {
		if !strings.HasPrefix(c.Code, "-") {
			all = append(all, c)
			continue
		}
		all = append(all, // one per port
			Code{"port25" + c.Code, c.Severity, c.Untested, fmt.Sprintf(c.Meaning, "Port 25")},
			Code{"port26" + c.Code, c.Severity, c.Untested, fmt.Sprintf(c.Meaning, "The port of implicit TLS")})
	}
	return all
}

// CodeOf returns the documentation of a code. A test ensures that every code has one.
func CodeOf(name string) Code {
	for _, c := range Codes() {
		if c.Code == name {
			return c
		}
	}
	return Code{Code: name, Severity: Error}
}
