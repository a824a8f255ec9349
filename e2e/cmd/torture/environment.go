package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/socketmap"
)

// question is a lookup and the answers that the facts allow.
type question struct {
	request socketmap.Request
	// best is the answer when everything can be looked up. temp stands for all answers with this status: mail waits.
	best string
	// also are other answers that the facts allow at some time during the fault.
	also []string
}

// text is an answer as questions have it.
func text(r socketmap.Reply) string {
	if r.Status == socketmap.StatusTemp {
		return temp
	}
	return r.String()
}

// allows reports whether an answer is as strong as the facts ask for.
func (q question) allows(r socketmap.Reply) bool {
	return text(r) == q.best || slices.Contains(q.also, text(r))
}

// sure returns the questions, without TEMP as an allowed answer unless it is the best one.
func sure(questions []question) (without []question) {
	for _, q := range questions {
		q.also = slices.DeleteFunc(slices.Clone(q.also), func(answer string) bool { return answer == temp })
		without = append(without, q)
	}
	return without
}

const temp, notFound = "TEMP", "NOTFOUND "

func secure(host string) string { return "OK secure match=" + host + " servername=hostname" }

func policyOf(key string) socketmap.Request { return socketmap.Request{Map: "tls-policy", Key: key} }

// facts are the kinds of domains in the DNS.
type facts uint8

const (
	signed   facts = iota // a starttls- host, signed MX RRset
	unsigned              // the same, unsigned
	plain                 // no promise, unsigned
	withTLSA              // DANE
	bogus                 // SERVFAIL
	kinds                 // how many there are
)

// domain returns a domain of a kind, and the best answer about its TLS policy.
func (f facts) domain(name string) (d dnstest.Domain, best string) {
	host := "mx." + name
	best = notFound
	switch f {
	case signed, unsigned:
		host = "starttls-" + host
		best = secure(host)
	case withTLSA:
		d.TLSA, best = foreignTLSA, "OK dane-only"
	case bogus:
		best = temp
	case plain, kinds:
	}
	d.Name, d.MX, d.Secure = name, []string{"10 " + host}, f == signed || f == withTLSA
	return d, best
}

func (w *environment) publish(f facts, name string) {
	d, _ := f.domain(name)
	d.TTL = w.ttl
	w.dns.Publish(d)
	if f == bogus {
		w.dns.Set(name, dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6, EDEText: "no valid signature"})
	}
}

const foreignTLSA = "3 1 1 abababababababababababababababababababababababababababababababab"

func (w *environment) set(secure bool, name string, t dns.Type, records ...string) {
	w.dns.Set(name, t, dnstest.Answer{Secure: secure, TTL: w.ttl, Records: records})
}

// questions are what Postfix asks about a domain of a kind.
func (f facts) questions(domain string) []question {
	_, best := f.domain(domain)
	return []question{
		{request: policyOf(domain), best: best, also: []string{temp}},
		{request: socketmap.Request{Map: "QUERYwithTLSRPT", Key: domain}, best: best, also: []string{temp}},
		{request: socketmap.Request{Map: "transport", Key: "someone@" + domain}, best: notFound},
	}
}

// environment has the servers around a policyd: a resolver with domains of every kind, a receiver on the port of
// implicit TLS and, as root, an MTA-STS policy host, whose port is 443.
type environment struct {
	dns      *dnstest.Server
	ttl      int
	caFile   string
	receiver *lab.Receiver
	policies *lab.PolicyHost
	webAddr  netip.Addr
	all      []question
	domains  int // the number of domains that unknown has made
}

const smtpsPort = 2626

// newEnvironment starts the servers; their records have a TTL of ttl seconds.
func (s *scene) newEnvironment(ttl int) {
	w := &environment{ttl: ttl, caFile: filepath.Join(s.dir, "ca.pem")}
	s.env = w
	ca := smtptest.NewCA(lab.Must{})
	must.Do(os.WriteFile(w.caFile, ca.PEM(), 0o600))
	// The address of the receiver belongs to no interface, so that policyd does not treat it as this host.
	const host = "smtps-mx.wrapped.example"
	w.receiver = lab.NewReceiver(host, []netip.Addr{s.loopback()})
	must.Do(w.receiver.Serve(smtpsPort, lab.Implicit, lab.Issue(ca, host, lab.Good)))
	s.atEnd(w.receiver.Close)
	if s.config.root {
		w.webAddr = s.loopback()
		w.policies = lab.NewPolicyHost(netip.AddrPortFrom(w.webAddr, 443), ca,
			func(domain string) string { return lab.STS("enforce", "mx."+domain) })
		s.atEnd(w.policies.Close)
		must.Do(w.policies.Open())
	}
	s.resolver(s.loopback().String(), w.publishAll)
}

// resolver starts a resolver, which may be closed before the end. Before it answers, prepare publishes names there.
func (s *scene) resolver(address string, prepare func(*dnstest.Server)) *dnstest.Server {
	server := must.Get(dnstest.Start(address, prepare))
	s.atEnd(func() { _ = server.Close() })
	return server
}

// publishAll makes another resolver that of the environment.
func (w *environment) publishAll(resolver *dnstest.Server) {
	w.dns, w.all = resolver, nil
	for kind := range kinds {
		domain := fmt.Sprintf("k%d.example", kind)
		w.publish(kind, domain)
		w.all = append(w.all, kind.questions(domain)...)
	}
	const domain = "wrapped.example"
	host := w.receiver.Name
	w.dns.Publish(dnstest.Domain{Name: domain, MX: []string{"10 " + host}, Secure: true, TTL: w.ttl,
		Address: w.receiver.Addrs[0].String()})
	w.all = append(w.all,
		question{request: policyOf(domain), best: secure(host), also: []string{temp}},
		question{request: policyOf(fmt.Sprintf("%s:%d", domain, smtpsPort)), best: secure(host), also: []string{temp}},
		question{
			request: socketmap.Request{Map: "transport", Key: "someone@" + domain},
			best:    fmt.Sprintf("OK smtps26:%s:%d", domain, smtpsPort), also: []string{notFound},
		})
	w.all = append(w.all, w.enforced("sts.example")...)
}

// enforced publishes domains with an enforced MTA-STS policy and returns their questions: none without a policy host.
func (w *environment) enforced(domains ...string) (questions []question) {
	if w.policies == nil {
		return nil
	}
	for _, d := range domains {
		w.dns.Publish(dnstest.Domain{Name: d, MX: []string{"10 mx." + d}, TTL: w.ttl, STS: w.webAddr.String()})
		questions = append(questions, question{request: policyOf(d), best: secure("mx." + d), also: []string{temp}})
	}
	return questions
}

// unknown publishes new domains and returns the questions about them.
func (w *environment) unknown(n int) (questions []question) {
	for range n {
		w.domains++
		kind, domain := facts(w.domains)%kinds, fmt.Sprintf("f%d.example", w.domains)
		w.publish(kind, domain)
		questions = append(questions, kind.questions(domain)...)
	}
	return questions
}

// numbered are domains with a label and a number.
func numbered(label string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d.example", label, i)
	}
	return names
}
