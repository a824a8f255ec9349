package main

import (
	"crypto/sha256"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// domain is one of the invented domains.
type domain struct {
	name, about string
	// mx are the MX records: preference and the first label of the host.
	mx []string
	// unsigned domains have no DNSSEC; bogus domains have signatures that do not verify.
	unsigned, bogus bool
	// tlsa is a TLSA record of every host for port 25; "" is none.
	tlsa string
	// policy and route are the expected answers of the two maps; the key of a route has the same policy.
	policy, route string
	// then is what Postfix does with these answers.
	then string
}

const nothing = "NOTFOUND "

func secure(host string) string { return "OK secure match=" + host + " servername=hostname" }

func domains() []domain {
	return []domain{
		{name: "starttls.example", about: "Every MX host promises STARTTLS on port 25.",
			mx: []string{"10 starttls-mx"}, policy: secure("starttls-mx.starttls.example"), route: nothing,
			then: "Port 25, STARTTLS, a valid certificate with that name. " +
				"If an attacker strips STARTTLS, the mail waits."},
		{name: "smtps.example", about: "Every MX host promises implicit TLS on port 26 too.",
			mx: []string{"10 smtps-mx"}, policy: secure("smtps-mx.smtps.example"), route: "OK smtps26:smtps.example:26",
			then: "Port 26: TLS before the first word of SMTP, so there is nothing to strip."},
		{name: "mixed.example", about: "One MX host promises, one does not.",
			mx: []string{"10 mx", "20 starttls-mx"}, policy: secure("starttls-mx.mixed.example"), route: nothing,
			then: "Only the host that keeps its promise gets the mail. " +
				"An attacker who blocks it gains nothing: the mail waits."},
		{name: "dane.example", about: "No prefix, but TLSA records for its host: DANE.", mx: []string{"10 mx"},
			tlsa: "3 1 1 " + strings.Repeat("ab", sha256.Size), policy: "OK dane-only", route: nothing,
			then: "Postfix accepts only the certificate that the DNS names."},
		{name: "unsigned.example", about: "The same promise without DNSSEC.", mx: []string{"10 starttls-mx"},
			unsigned: true, policy: secure("starttls-mx.unsigned.example"), route: nothing,
			then: "The promise counts. It is marked as unsigned: it does not stop an attacker who also forges DNS."},
		{name: "plain.example", about: "No promise: most domains today.", mx: []string{"10 mx"}, policy: nothing,
			route: nothing, then: "Mail is sent as before."},
		{name: "bogus.example", about: "The DNSSEC signatures do not verify: an attack, or a broken zone.",
			mx: []string{"10 starttls-mx"}, bogus: true,
			policy: "TEMP MX lookup for bogus.example failed: SERVFAIL (DNSSEC Bogus)", route: nothing,
			then: "The mail waits: the MX records cannot be trusted."},
		{name: "own.example", about: "A domain whose mail this site receives (exclude_domains).",
			mx: []string{"10 smtps-mx"}, policy: secure("smtps-mx.own.example"),
			route: nothing, then: "Never a route: it would create a mail loop."},
	}
}

// publish publishes the domain in the resolver.
func (d domain) publish(lab *dnstest.Server) {
	published := dnstest.Domain{Name: d.name, Secure: !d.unsigned, TLSA: d.tlsa}
	for _, m := range d.mx {
		published.MX = append(published.MX, m+"."+d.name)
	}
	lab.Publish(published)
	if d.bogus {
		const dnssecBogus = 6 // RFC 8914 section 4.7
		lab.Set(d.name, dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: dnssecBogus})
	}
}

// question is one lookup as Postfix makes it, with the expected reply.
type question struct {
	setting string // the setting in main.cf
	request socketmap.Request
	want    string
}

// questions are the lookups of Postfix for one mail.
func (d domain) questions() []question {
	const tls, transport = "smtp_tls_policy_maps", "transport_maps"
	qs := []question{
		{tls, socketmap.Request{Map: "tls-policy", Key: d.name}, d.policy},
		{transport, socketmap.Request{Map: "transport", Key: "user@" + d.name}, d.route},
	}
	if d.route != nothing {
		qs = append(qs, question{tls, socketmap.Request{Map: "tls-policy", Key: d.name + ":26"}, d.policy})
	}
	return qs
}
