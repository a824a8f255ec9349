package cases

import (
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// Kind is a kind of domain whose answer rests on several DNS answers, of which any one can be missing. In all its
// fields the word DOMAIN stands for the domain.
type Kind struct {
	Name string
	Zone string // in which the domain is
	// Records are of the domain. "mx.DOMAIN HOST" is a host with addresses of both families, as all MX hosts are that
	// have no record; "mx.DOMAIN IPV4" is a host with an IPv4 address only.
	Records []string
	// Policy is the mode of the MTA-STS policy, which allows the host mx.DOMAIN; "" is none.
	Policy string
	socketmap.Request
	// Answer is what policyd answers when every DNS question is answered, in the words of Key.
	Answer string
	// Without maps a question that is not answered, such as "TLSA _25._tcp.mx.DOMAIN", to the answers that are right
	// then. For all others Answer is right.
	Without map[string][]string
}

// Domain is one domain of a kind.
type Domain struct {
	Kind
	Name string
}

// Fill replaces the word DOMAIN by the domain, and Generalise does the reverse.
func (d Domain) Fill(text string) string { return strings.ReplaceAll(text, "DOMAIN", d.Name) }

// Generalise replaces the domain by the word DOMAIN.
func (d Domain) Generalise(text string) string { return strings.ReplaceAll(text, d.Name, "DOMAIN") }

// Kinds are all kinds.
func Kinds() []Kind {
	tlsPolicy := func(key string) socketmap.Request { return socketmap.Request{Map: "tls-policy", Key: key} }
	transport := func(key string) socketmap.Request { return socketmap.Request{Map: "transport", Key: key} }
	const signed, unsigned = "test", "unsigned.test"
	const mx, prefixed, smtps = "DOMAIN MX 10 mx.DOMAIN", "DOMAIN MX 10 starttls-mx.DOMAIN",
		"DOMAIN MX 10 smtps-mx.DOMAIN"
	tlsa := " TLSA 3 1 1 " + strings.Repeat("ab", 32)
	// With its TLSA lookup failed, the host cannot be used (RFC 7672 section 2.1.2).
	waits := func(questions ...string) map[string][]string {
		m := map[string][]string{}
		for _, q := range questions {
			m[q] = []string{temp}
		}
		return m
	}
	// Without an MTA-STS record or policy the domain has no policy (RFC 8461 section 3.3).
	noPolicy := map[string][]string{"TXT _mta-sts.DOMAIN": {notFound}, "A mta-sts.DOMAIN": {notFound}}
	const route = "smtps26:DOMAIN:26"
	return []Kind{
		{Name: "unsigned", Zone: unsigned, Records: []string{mx}, Request: tlsPolicy("DOMAIN"), Answer: notFound},
		{Name: "unsigned, host is an alias", Zone: unsigned, Records: []string{mx, "mx.DOMAIN CNAME real.DOMAIN",
			"real.DOMAIN HOST"},
			Request: tlsPolicy("DOMAIN"), Answer: notFound, Without: waits("CNAME mx.DOMAIN")},
		{Name: "unsigned, prefix", Zone: unsigned, Records: []string{prefixed}, Request: tlsPolicy("DOMAIN"),
			Answer: secure("starttls-mx.DOMAIN")},
		{Name: "unsigned, MTA-STS", Zone: unsigned, Records: []string{mx}, Policy: "enforce",
			Request: tlsPolicy("DOMAIN"), Answer: secure("mx.DOMAIN"), Without: noPolicy},
		{Name: "unsigned, MTA-STS none", Zone: unsigned, Records: []string{mx}, Policy: "none",
			Request: tlsPolicy("DOMAIN"), Answer: notFound},
		{Name: "unsigned, prefix and MTA-STS", Zone: unsigned, Records: []string{prefixed, "DOMAIN MX 20 mx.DOMAIN"},
			Policy: "enforce", Request: tlsPolicy("DOMAIN"), Answer: secure("mx.DOMAIN"),
			Without: map[string][]string{"TXT _mta-sts.DOMAIN": {secure("starttls-mx.DOMAIN")},
				"A mta-sts.DOMAIN": {secure("starttls-mx.DOMAIN")}}},
		{Name: "signed", Zone: signed, Records: []string{mx}, Request: tlsPolicy("DOMAIN"), Answer: notFound,
			Without: waits("TLSA _25._tcp.mx.DOMAIN")},
		{Name: "signed, TLSA", Zone: signed, Records: []string{mx, "_25._tcp.mx.DOMAIN" + tlsa},
			Request: tlsPolicy("DOMAIN"),
			Answer:  "dane-only", Without: waits("TLSA _25._tcp.mx.DOMAIN")},
		{Name: "signed, TLSA, host is an alias", Zone: signed, Request: tlsPolicy("DOMAIN"), Answer: "dane-only",
			Records: []string{mx, "mx.DOMAIN CNAME real.DOMAIN", "real.DOMAIN HOST", "_25._tcp.real.DOMAIN" + tlsa},
			Without: waits("TLSA _25._tcp.real.DOMAIN")},
		{Name: "signed, prefix", Zone: signed, Records: []string{prefixed}, Request: tlsPolicy("DOMAIN"),
			Answer: secure("starttls-mx.DOMAIN"), Without: waits("TLSA _25._tcp.starttls-mx.DOMAIN")},
		{Name: "signed, MTA-STS", Zone: signed, Records: []string{mx}, Policy: "enforce", Request: tlsPolicy("DOMAIN"),
			Answer: secure("mx.DOMAIN"), Without: map[string][]string{"TXT _mta-sts.DOMAIN": {notFound},
				"A mta-sts.DOMAIN": {notFound}, "TLSA _25._tcp.mx.DOMAIN": {temp}}},
		{Name: "signed, two hosts with TLSA", Zone: signed, Request: tlsPolicy("DOMAIN"), Answer: "dane-only",
			Records: []string{mx, "DOMAIN MX 20 b.DOMAIN", "_25._tcp.mx.DOMAIN" + tlsa, "_25._tcp.b.DOMAIN" + tlsa}},
		{Name: "signed, two hosts, TLSA at the first", Zone: signed, Request: tlsPolicy("DOMAIN"), Answer: "dane",
			Records: []string{mx, "DOMAIN MX 20 b.DOMAIN", "_25._tcp.mx.DOMAIN" + tlsa},
			Without: map[string][]string{"TLSA _25._tcp.b.DOMAIN": {"dane-only"}}},
		{Name: "unsigned, IPv4 only", Zone: unsigned, Records: []string{mx, "mx.DOMAIN IPV4"},
			Request: tlsPolicy("DOMAIN"), Answer: notFound, Without: waits("A mx.DOMAIN")},
		{Name: "unsigned, prefix, IPv4 only", Zone: unsigned, Records: []string{prefixed, "starttls-mx.DOMAIN IPV4"},
			Request: tlsPolicy("DOMAIN"), Answer: secure("starttls-mx.DOMAIN"),
			Without: map[string][]string{"A starttls-mx.DOMAIN": {temp, secure("starttls-mx.DOMAIN")}}},
		{Name: "signed, TLSA, IPv4 only", Zone: signed, Records: []string{mx, "mx.DOMAIN IPV4", "_25._tcp.mx.DOMAIN" +
			tlsa},
			Request: tlsPolicy("DOMAIN"), Answer: "dane-only", Without: waits("A mx.DOMAIN",
				"TLSA _25._tcp.mx.DOMAIN")},
		{Name: "unsigned, port 26", Zone: unsigned, Records: []string{smtps}, Request: tlsPolicy("DOMAIN:26"),
			Answer: secure("smtps-mx.DOMAIN")},
		{Name: "signed, port 26", Zone: signed, Records: []string{smtps}, Request: tlsPolicy("DOMAIN:26"),
			Answer: secure("smtps-mx.DOMAIN"), Without: waits("TLSA _26._tcp.smtps-mx.DOMAIN")},
		{Name: "[host], unsigned", Zone: unsigned, Records: []string{"mx.DOMAIN HOST"},
			Request: tlsPolicy("[mx.DOMAIN]"), Answer: notFound},
		{Name: "[host], TLSA", Zone: signed, Records: []string{"mx.DOMAIN HOST", "_25._tcp.mx.DOMAIN" + tlsa},
			Request: tlsPolicy("[mx.DOMAIN]"),
			Answer:  "dane-only", Without: waits("TLSA _25._tcp.mx.DOMAIN")},
		{Name: "[host], prefix", Zone: unsigned, Records: []string{"starttls-mx.DOMAIN HOST"},
			Request: tlsPolicy("[starttls-mx.DOMAIN]"), Answer: secure("starttls-mx.DOMAIN")},
		// Port 25 is always a safe answer for the transport map, but one address family is enough.
		{Name: "unsigned, route", Zone: unsigned, Records: []string{smtps}, Request: transport("someone@DOMAIN"),
			Answer: route, Without: map[string][]string{"A smtps-mx.DOMAIN": {route, notFound},
				"AAAA smtps-mx.DOMAIN": {route, notFound}, "TXT _mta-sts.DOMAIN": {route, notFound}}},
		{Name: "signed, route", Zone: signed, Records: []string{smtps}, Request: transport("someone@DOMAIN"),
			Answer: route, Without: map[string][]string{"A smtps-mx.DOMAIN": {route, notFound},
				"AAAA smtps-mx.DOMAIN": {route, notFound}, "TXT _mta-sts.DOMAIN": {route, notFound},
				"TLSA _25._tcp.smtps-mx.DOMAIN": {notFound}, "TLSA _26._tcp.smtps-mx.DOMAIN": {notFound}}},
	}
}

// Add adds a domain of a kind to the lab.
func (k Kind) Add(l *lab.Lab, label string) Domain {
	d := Domain{Kind: k, Name: label + "." + k.Zone}
	const ipv4, ipv6 = ". A 127.40.0.1", ". AAAA fd00:26::40:1"
	hosts := map[string][]string{} // the addresses of each
	for _, r := range k.Records {
		switch owner, data, _ := strings.Cut(d.Fill(r), " "); {
		case data == "HOST":
			hosts[owner] = []string{ipv4, ipv6}
		case data == "IPV4":
			hosts[owner] = []string{ipv4}
		case strings.HasPrefix(data, "MX "):
			hosts[data[strings.LastIndex(data, " ")+1:]] = []string{ipv4, ipv6}
			l.Records(owner + ". " + data + ".")
		case strings.HasPrefix(data, "CNAME "):
			delete(hosts, owner)
			l.Records(owner + ". " + data + ".")
		default:
			l.Records(owner + ". " + data)
		}
	}
	for h, addresses := range hosts {
		for _, a := range addresses {
			l.Records(h + a)
		}
	}
	if k.Policy != "" {
		l.PolicyHost(d.Name, "1", lab.STS(k.Policy, "mx."+d.Name))
	}
	return d
}

// Question is the lookup that asks about the domain.
func (d Domain) Question() socketmap.Request {
	return socketmap.Request{Map: d.Map, Key: d.Fill(d.Key)}
}

// Right returns the answers that are right while one question is not answered.
func (d Domain) Right(question string) []string {
	right := d.Without[d.Generalise(question)]
	if right == nil {
		right = []string{d.Answer}
	}
	var filled []string
	for _, r := range right {
		filled = append(filled, d.Fill(r))
	}
	return filled
}
