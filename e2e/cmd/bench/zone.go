package main

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/dns/dnstest"
)

// kind is a kind of domain. Each has one MX host with one IPv4 address, of a block that is never in use (RFC 5737), so
// no connection is ever made.
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

// publish publishes a domain of the kind with an MX host.
func (k kind) publish(server *dnstest.Server, domain, host string) {
	d := dnstest.Domain{Name: domain, MX: []string{"10 " + host}, Secure: k.signed, TTL: 7200}
	if k.tlsa {
		d.TLSA = "3 1 1 " + strings.Repeat("ab", 32)
	}
	if k.sts {
		d.STS = "192.0.2.1"
	}
	server.Publish(d)
}

// several publishes domains with a host each and returns their names, which begin with a letter.
func (k kind) several(server *dnstest.Server, letter string, n int) []string {
	domains := make([]string, n)
	for i := range domains {
		domains[i] = fmt.Sprintf("%s%07d.example", letter, i)
		host := "mx." + domains[i]
		if k.prefix {
			host = "starttls-" + host
		}
		k.publish(server, domains[i], host)
	}
	return domains
}

// shared publishes domains of which 70 % have the MX host of one of 20 providers.
func shared(server *dnstest.Server, n int) []string {
	const providers = 20
	domains := dane().several(server, "s", n)
	for i, d := range domains {
		if i%10 < 7 {
			dane().publish(server, d, fmt.Sprintf("mx.provider%d.example", i%providers))
		}
	}
	return domains
}
