package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// resolver breaks the resolver in one way, or repairs it.
func resolver(set func(*dnstest.Server, bool), on bool) step {
	return do(func(s *scene) { set(s.env.dns, on) })
}

// changesItsMind answers without records and without a signature where the answer was secure, as an attacker would.
func changesItsMind(ctx context.Context, s *scene) string {
	w, begun, last := s.env, time.Now(), time.Duration(s.env.ttl)*time.Second
	const domain = "m0.example"
	w.publish(withTLSA, domain)
	questions := sure(withTLSA.questions(domain))
	s.p.best(ctx, questions)
	w.set(false, domain, dns.TypeMX, "MX 10 mx.attacker.example.")
	w.set(false, "_25._tcp.mx.m0.example", dns.TypeTLSA)
	before := w.dns.Asked(domain, dns.TypeMX)
	l := (&load{connections: 4, pause: 20 * time.Millisecond, questions: questions}).start(ctx, s.p)
	// In the last tenth of the TTL, a quarter of the lookups in the cache refresh. A new port is not in the memo.
	must.Do(daemon.Sleep(ctx, last*9/10-time.Since(begun)))
	for port := 1000; w.dns.Asked(domain, dns.TypeMX) == before; port++ {
		must.Be(time.Since(begun) < last, "policyd refreshed nothing, so it was not tested")
		s.p.best(ctx, []question{{request: policyOf(fmt.Sprintf("%s:%d", domain, port)), best: notFound}})
	}
	must.Do(s.p.Logged(ctx, keeps))
	s.p.best(ctx, []question{{request: policyOf("M0.example"), best: questions[0].best}}) // nothing has expired yet
	return l.end()
}

// protected are the questions whose answers must not change while the resolver copies the AD bit of the query. The TLSA
// records of forged.example have no signature: if the copied bit counted, they would be DANE.
func (w *environment) protected() []question {
	w.publish(plain, "forged.example")
	w.set(false, "_25._tcp.mx.forged.example", dns.TypeTLSA, "TLSA "+foreignTLSA)
	forged := question{request: policyOf("forged.example"), best: notFound, also: []string{temp}}
	return slices.Concat(signed.questions("k0.example"), unsigned.questions("k1.example"), []question{forged})
}

// liesFromTheStart starts a second policyd while the resolver copies the AD bit of the query.
func liesFromTheStart(ctx context.Context, s *scene) string {
	s.env.dns.SetEchoAD(true)
	p := s.start(ctx, setup{})
	p.best(ctx, s.env.protected())
	s.env.dns.SetEchoAD(false)
	// Until the next self-test nothing is secure, and there is no DANE.
	honest := slices.Clone(s.env.all)
	for i := range honest {
		if honest[i].best == "OK dane-only" {
			honest[i].also = []string{notFound, temp}
		}
	}
	return p.recover(ctx, honest)
}

// liesLater does the same to a policyd that has trusted the resolver so far: a reload repeats the self-test.
func liesLater(ctx context.Context, s *scene) string {
	s.env.dns.SetEchoAD(true)
	s.hangUp()
	must.Do(s.p.Logged(ctx, `result="echoes AD"`))
	s.p.best(ctx, s.env.protected())
	return ""
}

// resolverRestarts stops the resolver, so that its port refuses, and starts it again.
func resolverRestarts(ctx context.Context, s *scene) string {
	must.Do(s.env.dns.Close())
	span(15*time.Second, 5*time.Second)(ctx, s)
	s.resolver(s.env.dns.Addr(), s.env.publishAll)
	return recovers(ctx, s)
}

// The servers that resolv.conf names in turn.
const first, second, untrusted = "127.0.0.1", "::1", "127.0.0.53"

// nameServers starts the resolvers and writes the first into resolv.conf.
func (s *scene) nameServers() {
	s.named = map[string]*dnstest.Server{}
	for _, address := range []string{untrusted, second, first} {
		s.named[address] = s.resolver(net.JoinHostPort(address, "53"), s.env.publishAll)
	}
	resolvConf(first)
}

func resolvConf(server string) {
	const path = "/etc/resolv.conf"
	_ = os.Remove(path) // it may be a link
	must.Do(os.WriteFile(path, []byte("nameserver "+server+"\n"), 0o644))
}

// replaced changes resolv.conf to another resolver, and removes the file for a moment.
func replaced(ctx context.Context, s *scene) string {
	// The second resolver has a newer MX host of a signed domain; no cached answer of the first may hide it.
	server := s.named[second]
	server.Set("k0.example", dns.TypeMX, dnstest.Answer{Secure: true, TTL: s.env.ttl,
		Records: []string{"MX 10 starttls-new.k0.example."}})
	moved := question{request: policyOf("k0.example"), best: secure("starttls-new.k0.example"),
		also: []string{secure("starttls-mx.k0.example"), temp}}
	others := s.env.all[len(signed.questions("")):]
	l := (&load{connections: 4, pause: 20 * time.Millisecond, questions: append(others, moved)}).start(ctx, s.p)
	resolvConf(second)
	took := s.p.best(ctx, []question{moved})
	must.Do(os.Remove("/etc/resolv.conf"), daemon.Sleep(ctx, 3*time.Second))
	resolvConf(second)
	d, best := signed.domain("later.example") // only the second resolver has it
	server.Publish(d)
	s.p.best(ctx, slices.Concat(others, []question{{request: policyOf(d.Name), best: best}}))
	return fmt.Sprintf("%s; used after %.1f s", l.end(), took.Seconds())
}

// replacedByUntrusted changes resolv.conf to an untrusted resolver: nothing is secure then, and prefixes protect.
func replacedByUntrusted(ctx context.Context, s *scene) string {
	resolvConf(untrusted)
	must.Do(s.p.Logged(ctx, "trusted=false"))
	s.p.best(ctx, []question{
		{request: policyOf("k3.example"), best: notFound, also: []string{temp}},
		{request: policyOf("k0.example"), best: secure("starttls-mx.k0.example"), also: []string{temp}},
	})
	return ""
}
