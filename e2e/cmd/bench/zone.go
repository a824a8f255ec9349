package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// kind is a kind of domain. Each has one MX host with one IPv4 address.
type kind struct {
	name string
	// signed domains have DNSSEC. The host of one with a prefix promises STARTTLS; tlsa is DANE, sts MTA-STS.
	signed, prefix, tlsa, sts bool
}

func dane() kind { return kind{name: "DANE", signed: true, tlsa: true} }

func kinds() []kind {
	return []kind{
		{name: "plain"}, {name: "plain, signed", signed: true},
		{name: "prefix", prefix: true}, {name: "prefix, signed", signed: true, prefix: true},
		dane(), {name: "MTA-STS", sts: true},
	}
}

// publish gives a domain of the kind an MX host in the DNS; each answer takes delay. The addresses are of a block that
// is never in use (RFC 5737), so nothing is ever connected to.
func (k kind) publish(server *dnstest.Server, domain string, delay time.Duration) {
	host := "mx." + domain
	if k.prefix {
		host = "starttls-" + host
	}
	k.set(server, delay, domain, dns.TypeMX, "MX 10 "+host+".")
	k.publishHost(server, host, delay)
	if k.sts {
		k.set(server, delay, "_mta-sts."+domain, dns.TypeTXT, `TXT "v=STSv1; id=1;"`)
		k.set(server, delay, "mta-sts."+domain, dns.TypeA, "A 192.0.2.1")
		k.set(server, delay, "mta-sts."+domain, dns.TypeAAAA)
	} else {
		server.Set("_mta-sts."+domain, dns.TypeTXT, dnstest.Answer{Secure: k.signed, TTL: ttl, Delay: delay,
			Rcode: "NXDOMAIN"})
	}
}

const ttl = 7200

// publishHost publishes the addresses and TLSA records of a host.
func (k kind) publishHost(server *dnstest.Server, host string, delay time.Duration) {
	k.set(server, delay, host, dns.TypeA, "A 192.0.2.1")
	k.set(server, delay, host, dns.TypeAAAA)
	if k.tlsa {
		k.set(server, delay, "_25._tcp."+host, dns.TypeTLSA, "TLSA 3 1 1 "+strings.Repeat("ab", 32))
	} else {
		k.set(server, delay, "_25._tcp."+host, dns.TypeTLSA)
	}
}

func (k kind) set(server *dnstest.Server, delay time.Duration, name string, t dns.Type, records ...string) {
	server.Set(name, t, dnstest.Answer{Secure: k.signed, TTL: ttl, Delay: delay, Records: records})
}

// several publishes domains and returns their names, which begin with a letter.
func (k kind) several(server *dnstest.Server, letter string, n int, delay time.Duration) []string {
	domains := make([]string, n)
	for i := range domains {
		domains[i] = fmt.Sprintf("%s%07d.example", letter, i)
		k.publish(server, domains[i], delay)
	}
	return domains
}

// shared publishes domains of which 70 % have the MX host of one of 20 providers.
func shared(server *dnstest.Server, n int) []string {
	const providers = 20
	for i := range providers {
		dane().publishHost(server, fmt.Sprintf("mx.provider%d.example", i), 0)
	}
	domains := dane().several(server, "s", n, 0)
	for i, d := range domains {
		if i%10 < 7 {
			dane().set(server, 0, d, dns.TypeMX, fmt.Sprintf("MX 10 mx.provider%d.example.", i%providers))
		}
	}
	return domains
}
