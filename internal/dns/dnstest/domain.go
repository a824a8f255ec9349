package dnstest

import (
	"cmp"
	"strings"

	"github.com/policyd/policyd/internal/dns"
)

// Domain is a mail domain for Publish.
type Domain struct {
	Name string
	// MX are preferences and hosts, such as "10 mx.example.com".
	MX []string
	// Secure sets the AD bit of every answer about the domain.
	Secure bool
	// TTL is as in Answer.
	TTL int
	// Address is the IPv4 address of each host; the default is in a block that is never in use (RFC 5737).
	Address string
	// TLSA is the data of the TLSA record of each host for port 25; "" is none.
	TLSA string
	// STS is the IPv4 address of the MTA-STS policy host; "" means that the domain has no policy.
	STS string
}

// Publish sets the answers to all questions that a sender asks about a domain.
func (s *Server) Publish(d Domain) {
	set := func(name string, t dns.Type, records ...string) {
		s.Set(name, t, Answer{Secure: d.Secure, TTL: d.TTL, Records: records})
	}
	var mx, tlsa []string
	if d.TLSA != "" {
		tlsa = []string{"TLSA " + d.TLSA}
	}
	for _, m := range d.MX {
		_, host, _ := strings.Cut(m, " ")
		mx = append(mx, "MX "+m+".")
		set(host, dns.TypeA, "A "+cmp.Or(d.Address, "192.0.2.1"))
		set(host, dns.TypeAAAA)
		set("_25._tcp."+host, dns.TypeTLSA, tlsa...)
	}
	set(d.Name, dns.TypeMX, mx...)
	if d.STS == "" {
		s.Set("_mta-sts."+d.Name, dns.TypeTXT, Answer{Rcode: "NXDOMAIN", Secure: d.Secure, TTL: d.TTL})
		return
	}
	set("_mta-sts."+d.Name, dns.TypeTXT, `TXT "v=STSv1; id=1;"`)
	set("mta-sts."+d.Name, dns.TypeA, "A "+d.STS)
	set("mta-sts."+d.Name, dns.TypeAAAA)
}
