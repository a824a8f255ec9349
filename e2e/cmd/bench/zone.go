package main

import (
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// kind is a kind of domain. Each has one MX host, with one IPv4 address.
type kind struct {
	name string
	// signed domains have DNSSEC. The host of one with a prefix promises STARTTLS; tlsa is DANE, sts MTA-STS.
	signed, prefix, tlsa, sts bool
	// ttl of all answers; 0 means two hours.
	ttl time.Duration
}

// last returns the kind with another TTL.
func (k kind) last(ttl time.Duration) kind {
	k.ttl = ttl
	return k
}

func plain() kind { return kind{name: "plain"} }

func prefixed() kind { return kind{name: "prefix, signed", signed: true, prefix: true} }

func withTLSA() kind { return kind{name: "DANE", signed: true, tlsa: true} }

func kinds() []kind {
	return []kind{
		plain(),
		{name: "plain, signed", signed: true},
		{name: "prefix", prefix: true},
		prefixed(),
		withTLSA(),
		{name: "MTA-STS", sts: true},
	}
}

func (k kind) host(domain string) string {
	if k.prefix {
		return "starttls-mx." + domain
	}
	return "mx." + domain
}

// names are the questions that can be asked about a domain.
func (k kind) names(domain string) []dns.Question {
	host := k.host(domain)
	return []dns.Question{
		{Name: domain, Type: dns.TypeMX},
		{Name: host, Type: dns.TypeA}, {Name: host, Type: dns.TypeAAAA}, {Name: host, Type: dns.TypeCNAME},
		{Name: "_25._tcp." + host, Type: dns.TypeTLSA}, {Name: "_26._tcp." + host, Type: dns.TypeTLSA},
		{Name: "_mta-sts." + domain, Type: dns.TypeTXT},
		{Name: "mta-sts." + domain, Type: dns.TypeA}, {Name: "mta-sts." + domain, Type: dns.TypeAAAA},
	}
}

// publish has the lab know a domain; each of its answers takes that long. The addresses are of a block that nobody
// has (RFC 5737), so nothing is ever connected to.
func (k kind) publish(lab *dnstest.Server, domain string, delay time.Duration) {
	ttl := 7200
	if k.ttl > 0 {
		ttl = int(k.ttl / time.Second)
	}
	for _, q := range k.names(domain) {
		a := dnstest.Answer{Secure: k.signed, TTL: ttl, Delay: delay}
		switch {
		case q.Type == dns.TypeMX:
			a.Records = []string{"MX 10 " + k.host(domain) + "."}
		case q.Type == dns.TypeA && (k.sts || !strings.HasPrefix(q.Name, "mta-sts.")):
			a.Records = []string{"A 192.0.2.1"}
		case q.Type == dns.TypeTLSA && k.tlsa && strings.HasPrefix(q.Name, "_25."):
			a.Records = []string{"TLSA 3 1 1 " + strings.Repeat("ab", 32)}
		case q.Type == dns.TypeTXT && k.sts:
			a.Records = []string{`TXT "v=STSv1; id=1;"`}
		case q.Type == dns.TypeAAAA && strings.HasPrefix(q.Name, k.host(domain)):
		default:
			a.Rcode = "NXDOMAIN"
		}
		if len(a.Records) == 0 && a.Rcode == "NXDOMAIN" && delay == 0 && k.ttl == 0 {
			continue // what the lab says anyway, but for the AD bit of names in unsigned domains
		}
		lab.Set(q.Name, q.Type, a)
	}
}
