package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// question is a lookup, and which answers the facts allow.
type question struct {
	request socketmap.Request
	// best is the answer where everything can be looked up.
	best string
	// also are others that are no weaker than the facts at some time of the trial.
	also []string
	// temp says that TEMP is allowed: mail waits.
	temp bool
}

// allows says whether an answer is as strong as the facts ask for.
func (q question) allows(r socketmap.Reply) bool {
	text := r.String()
	return text == q.best || q.temp && r.Status == socketmap.StatusTemp || slices.Contains(q.also, text)
}

const notFound = "NOTFOUND "

// facts are the kinds of domains that there are in DNS.
type facts uint8

const (
	signed   facts = iota // a starttls- host, MX RRset signed
	unsigned              // the same, not signed
	plain                 // no promise, not signed
	withTLSA              // DANE
	bogus                 // SERVFAIL
)

func kinds() []facts { return []facts{signed, unsigned, plain, withTLSA, bogus} }

// publish has the resolver know a domain of a kind. The addresses are of a block that nobody has (RFC 5737).
func (f facts) publish(server *dnstest.Server, domain string, ttl int) {
	secure := f == signed || f == withTLSA
	set := func(name string, t dns.Type, a dnstest.Answer) {
		a.Secure, a.TTL = secure, ttl
		server.Set(name, t, a)
	}
	host := f.host(domain)
	if f == bogus {
		server.Set(domain, dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6, EDEText: "no valid signature"})
		return
	}
	set(domain, dns.TypeMX, dnstest.Answer{Records: []string{"MX 10 " + host + "."}})
	set(host, dns.TypeA, dnstest.Answer{Records: []string{"A 192.0.2.1"}})
	set(host, dns.TypeAAAA, dnstest.Answer{})
	tlsa := dnstest.Answer{}
	if f == withTLSA {
		tlsa.Records = []string{"TLSA 3 1 1 " + strings.Repeat("ab", 32)}
	}
	set("_25._tcp."+host, dns.TypeTLSA, tlsa)
	set("_mta-sts."+domain, dns.TypeTXT, dnstest.Answer{Rcode: "NXDOMAIN"})
}

func (f facts) host(domain string) string {
	if f == signed || f == unsigned {
		return "starttls-mx." + domain
	}
	return "mx." + domain
}

// questions are what Postfix would ask about a domain of a kind.
func (f facts) questions(domain string) []question {
	best, temp := notFound, true
	switch f {
	case signed, unsigned:
		best = secure(f.host(domain))
	case withTLSA:
		best = "OK dane-only"
	case bogus:
		best = "" // no answer but TEMP
	case plain:
	}
	return []question{
		{request: socketmap.Request{Map: "tls-policy", Key: domain}, best: best, temp: temp},
		{request: socketmap.Request{Map: "QUERYwithTLSRPT", Key: domain}, best: best, temp: temp},
		{request: socketmap.Request{Map: "transport", Key: "someone@" + domain}, best: notFound},
	}
}

func secure(hosts ...string) string {
	return "OK secure match=" + strings.Join(hosts, ":") + " servername=hostname"
}

// world is what there is outside of the policyd of a trial: a resolver, with domains of every kind, a receiver on the
// port of implicit TLS, and, as root, a policy host.
type world struct {
	dns      *dnstest.Server
	ttl      int
	caFile   string
	receiver *receiver
	hosts    *policyHosts // nil: not root
	all      []question
	pool     []question // of a soak
	fresh    int
}

// usual are the facts of the domains that all trials ask for. smtpsHost promises implicit TLS and keeps it.
const (
	smtpsDomain = "wrapped.example"
	smtpsHost   = "smtps-mx.wrapped.example"
	stsDomain   = "sts.example"
	stsHost     = "mx.sts.example"
)

// resolver starts a resolver. The trial may close it before its end.
func (s *scene) resolver(address string) (*dnstest.Server, error) {
	dns, err := dnstest.Start(address)
	if err == nil {
		s.atEnd(func() error { _ = dns.Close(); return nil })
	}
	return dns, err
}

// world makes one whose records live for ttl seconds.
func (s *scene) world(ttl int) (*world, error) {
	w := &world{ttl: ttl}
	var err error
	if w.dns, err = s.resolver(s.loopback().String()); err != nil {
		return nil, err
	}
	if err := s.people(w); err != nil {
		return nil, err
	}
	w.publish()
	return w, nil
}

// publish has the resolver know all domains.
func (w *world) publish() {
	w.all = nil
	for i, kind := range kinds() {
		domain := fmt.Sprintf("k%d.example", i)
		kind.publish(w.dns, domain, w.ttl)
		w.all = append(w.all, kind.questions(domain)...)
	}
	w.publishSMTPS()
	if w.hosts != nil {
		w.publishSTS(stsDomain, "1")
		w.all = append(w.all, question{request: socketmap.Request{Map: "tls-policy", Key: stsDomain}, best: secure(stsHost), temp: true})
	}
}

func (w *world) publishSMTPS() {
	addr := w.receiver.addr
	w.dns.Set(smtpsDomain, dns.TypeMX, dnstest.Answer{Secure: true, TTL: w.ttl, Records: []string{"MX 10 " + smtpsHost + "."}})
	w.dns.Set(smtpsHost, dns.TypeA, dnstest.Answer{Secure: true, TTL: w.ttl, Records: []string{"A " + addr.Addr().String()}})
	w.dns.Set(smtpsHost, dns.TypeAAAA, dnstest.Answer{Secure: true, TTL: w.ttl})
	w.dns.Set("_25._tcp."+smtpsHost, dns.TypeTLSA, dnstest.Answer{Secure: true, TTL: w.ttl})
	port := addr.Port()
	w.all = append(w.all,
		question{request: socketmap.Request{Map: "tls-policy", Key: smtpsDomain}, best: secure(smtpsHost), temp: true},
		question{request: socketmap.Request{Map: "tls-policy", Key: fmt.Sprintf("%s:%d", smtpsDomain, port)}, best: secure(smtpsHost), temp: true},
		question{
			request: socketmap.Request{Map: "transport", Key: "someone@" + smtpsDomain},
			best:    fmt.Sprintf("OK smtps26:%s:%d", smtpsDomain, port), also: []string{notFound},
		})
}

func (w *world) publishSTS(domain, id string) {
	w.dns.Set(domain, dns.TypeMX, dnstest.Answer{TTL: w.ttl, Records: []string{"MX 10 mx." + domain + "."}})
	w.dns.Set("mx."+domain, dns.TypeA, dnstest.Answer{TTL: w.ttl, Records: []string{"A 192.0.2.1"}})
	w.dns.Set("mx."+domain, dns.TypeAAAA, dnstest.Answer{TTL: w.ttl})
	w.dns.Set("_mta-sts."+domain, dns.TypeTXT, dnstest.Answer{TTL: w.ttl, Records: []string{`TXT "v=STSv1; id=` + id + `;"`}})
	w.dns.Set("mta-sts."+domain, dns.TypeA, dnstest.Answer{TTL: w.ttl, Records: []string{"A " + w.hosts.addr.Addr().String()}})
	w.dns.Set("mta-sts."+domain, dns.TypeAAAA, dnstest.Answer{TTL: w.ttl})
}

// unknown publishes new domains that nobody has asked for, and returns the questions about them.
func (w *world) unknown(n int) (questions []question) {
	kinds := kinds()
	for range n {
		w.fresh++
		kind, domain := kinds[w.fresh%len(kinds)], fmt.Sprintf("f%d.example", w.fresh)
		kind.publish(w.dns, domain, w.ttl)
		questions = append(questions, kind.questions(domain)...)
	}
	return questions
}
