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
	Zone string // the zone of the domain
	// Records are of the domain. "mx.DOMAIN HOST" is a host with addresses of both families, as all MX hosts are that
	// have no record; "mx.DOMAIN IPV4" is a host with an IPv4 address only. "DOMAIN STS enforce" is an MTA-STS policy
	// in that mode, which allows the host mx.DOMAIN.
	Records []string
	socketmap.Request
	// Answer is the answer of policyd when every DNS question is answered, in the notation of Key.
	Answer string
	// Without maps an unanswered question, such as "TLSA _25._tcp.mx.DOMAIN", to the correct answers. For all other
	// questions Answer is correct.
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
	// lost maps an unanswered question to the correct answers; see Without.
	type lost = map[string][]string
	tls := func(key string) socketmap.Request { return socketmap.Request{Map: "tls-policy", Key: key} }
	transport := func(key string) socketmap.Request { return socketmap.Request{Map: "transport", Key: key} }
	const signed, unsigned = "test", "unsigned.test"
	const mx, prefixed, smtps = "DOMAIN MX 10 mx.DOMAIN", "DOMAIN MX 10 starttls-mx.DOMAIN",
		"DOMAIN MX 10 smtps-mx.DOMAIN"
	tlsa := " TLSA 3 1 1 " + strings.Repeat("ab", 32)
	// With its TLSA lookup failed, the host cannot be used (RFC 7672 section 2.1.2).
	waits := func(questions ...string) lost {
		m := lost{}
		for _, q := range questions {
			m[q] = []string{temp}
		}
		return m
	}
	// Without an MTA-STS record or policy the domain has no policy (RFC 8461 section 3.3).
	noPolicy := lost{"TXT _mta-sts.DOMAIN": {notFound}, "A mta-sts.DOMAIN": {notFound}}
	const route = "smtps26:DOMAIN:26"
	// Port 25 is always a safe answer for the transport map, but one address family is enough.
	either := []string{route, notFound}
	prefix := secure("starttls-mx.DOMAIN")
	return []Kind{
		{"unsigned", unsigned, []string{mx}, tls("DOMAIN"), notFound, nil},
		{"unsigned, host is an alias", unsigned, []string{mx, "mx.DOMAIN CNAME real.DOMAIN", "real.DOMAIN HOST"},
			tls("DOMAIN"), notFound, waits("CNAME mx.DOMAIN")},
		{"unsigned, prefix", unsigned, []string{prefixed}, tls("DOMAIN"), prefix, nil},
		{"unsigned, MTA-STS", unsigned, []string{mx, "DOMAIN STS enforce"}, tls("DOMAIN"), secure("mx.DOMAIN"),
			noPolicy},
		{"unsigned, MTA-STS none", unsigned, []string{mx, "DOMAIN STS none"}, tls("DOMAIN"), notFound, nil},
		{"unsigned, prefix and MTA-STS", unsigned, []string{prefixed, "DOMAIN MX 20 mx.DOMAIN", "DOMAIN STS enforce"},
			tls("DOMAIN"), secure("mx.DOMAIN"), lost{"TXT _mta-sts.DOMAIN": {prefix}, "A mta-sts.DOMAIN": {prefix}}},
		{"signed", signed, []string{mx}, tls("DOMAIN"), notFound, waits("TLSA _25._tcp.mx.DOMAIN")},
		{"signed, TLSA", signed, []string{mx, "_25._tcp.mx.DOMAIN" + tlsa}, tls("DOMAIN"), "dane-only",
			waits("TLSA _25._tcp.mx.DOMAIN")},
		{"signed, TLSA, host is an alias", signed,
			[]string{mx, "mx.DOMAIN CNAME real.DOMAIN", "real.DOMAIN HOST", "_25._tcp.real.DOMAIN" + tlsa},
			tls("DOMAIN"), "dane-only", waits("TLSA _25._tcp.real.DOMAIN")},
		{"signed, prefix", signed, []string{prefixed}, tls("DOMAIN"), prefix,
			waits("TLSA _25._tcp.starttls-mx.DOMAIN")},
		{"signed, MTA-STS", signed, []string{mx, "DOMAIN STS enforce"}, tls("DOMAIN"), secure("mx.DOMAIN"),
			lost{"TXT _mta-sts.DOMAIN": {notFound}, "A mta-sts.DOMAIN": {notFound}, "TLSA _25._tcp.mx.DOMAIN": {temp}}},
		{"signed, two hosts with TLSA", signed,
			[]string{mx, "DOMAIN MX 20 b.DOMAIN", "_25._tcp.mx.DOMAIN" + tlsa, "_25._tcp.b.DOMAIN" + tlsa},
			tls("DOMAIN"), "dane-only", nil},
		{"signed, two hosts, TLSA at the first", signed,
			[]string{mx, "DOMAIN MX 20 b.DOMAIN", "_25._tcp.mx.DOMAIN" + tlsa}, tls("DOMAIN"), "dane",
			lost{"TLSA _25._tcp.b.DOMAIN": {"dane-only"}}},
		{"unsigned, IPv4 only", unsigned, []string{mx, "mx.DOMAIN IPV4"}, tls("DOMAIN"), notFound,
			waits("A mx.DOMAIN")},
		{"unsigned, prefix, IPv4 only", unsigned, []string{prefixed, "starttls-mx.DOMAIN IPV4"}, tls("DOMAIN"),
			prefix, lost{"A starttls-mx.DOMAIN": {temp, prefix}}},
		{"signed, TLSA, IPv4 only", signed, []string{mx, "mx.DOMAIN IPV4", "_25._tcp.mx.DOMAIN" + tlsa}, tls("DOMAIN"),
			"dane-only", waits("A mx.DOMAIN", "TLSA _25._tcp.mx.DOMAIN")},
		{"unsigned, port 26", unsigned, []string{smtps}, tls("DOMAIN:26"), secure("smtps-mx.DOMAIN"), nil},
		{"signed, port 26", signed, []string{smtps}, tls("DOMAIN:26"), secure("smtps-mx.DOMAIN"),
			waits("TLSA _26._tcp.smtps-mx.DOMAIN")},
		{"[host], unsigned", unsigned, []string{"mx.DOMAIN HOST"}, tls("[mx.DOMAIN]"), notFound, nil},
		{"[host], TLSA", signed, []string{"mx.DOMAIN HOST", "_25._tcp.mx.DOMAIN" + tlsa}, tls("[mx.DOMAIN]"),
			"dane-only", waits("TLSA _25._tcp.mx.DOMAIN")},
		{"[host], prefix", unsigned, []string{"starttls-mx.DOMAIN HOST"}, tls("[starttls-mx.DOMAIN]"), prefix, nil},
		{"unsigned, route", unsigned, []string{smtps}, transport("someone@DOMAIN"), route,
			lost{"A smtps-mx.DOMAIN": either, "AAAA smtps-mx.DOMAIN": either, "TXT _mta-sts.DOMAIN": either}},
		{"signed, route", signed, []string{smtps}, transport("someone@DOMAIN"), route,
			lost{"A smtps-mx.DOMAIN": either, "AAAA smtps-mx.DOMAIN": either, "TXT _mta-sts.DOMAIN": either,
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
		case strings.HasPrefix(data, "STS "):
			l.PolicyHost(d.Name, "1", lab.STS(strings.TrimPrefix(data, "STS "), "mx."+d.Name))
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
	return d
}

// Question is the lookup that asks about the domain.
func (d Domain) Question() socketmap.Request {
	return socketmap.Request{Map: d.Map, Key: d.Fill(d.Key)}
}

// Right returns the correct answers while one question is left unanswered.
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
