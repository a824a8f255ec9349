package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// changesItsMind removes the records of secure answers without a signature, as an attacker would.
func changesItsMind(ctx context.Context, s *scene) (string, error) {
	w, begun := s.world, time.Now()
	const domain = "k0.example" // signed
	w.set(false, domain, dns.TypeMX, "MX 10 mx.attacker.example.")
	w.set(false, "_25._tcp.mx.k3.example", dns.TypeTLSA)
	before := w.dns.Asked(domain, dns.TypeMX)
	l := s.p.load(ctx, loading{connections: 4, pause: 20 * time.Millisecond,
		questions: sure(append(signed.questions(domain), withTLSA.questions("k3.example")...))})
	life := time.Duration(w.ttl-2) * time.Second // all answers are younger than the TTL until then
	err := wait(ctx, life-time.Since(begun))
	asked, held := l.end()
	refreshed := w.dns.Asked(domain, dns.TypeMX) - before
	if refreshed == 0 {
		err = errors.Join(err, errors.New("nothing was refreshed, so nothing was tried"))
	}
	return fmt.Sprintf("%s; refreshed %d times", asked, refreshed), errors.Join(err, held)
}

// liesAboutAD has a resolver that copies the AD bit of the query: from the start of a second policyd, and later.
func liesAboutAD(ctx context.Context, s *scene) (string, error) {
	w := s.world
	// TLSA records without a signature: with an AD bit that is an echo they would be DANE.
	forged := question{request: policyOf("forged.example"), best: notFound, temp: true}
	w.publish(plain, "forged.example")
	w.set(false, "_25._tcp.mx.forged.example", dns.TypeTLSA, foreignTLSA)
	w.dns.SetEchoAD(true)
	p, err := s.start(ctx, setup{})
	if err != nil {
		return "", err
	}
	protected := slices.Concat(signed.questions("k0.example"), unsigned.questions("k1.example"), []question{forged})
	if _, err := p.best(ctx, protected); err != nil {
		return "", err
	}
	w.dns.SetEchoAD(false)
	// Until the next self-test nothing is secure, and there is no DANE.
	honest := slices.Clone(w.all)
	for i := range honest {
		if honest[i].best == "OK dane-only" {
			honest[i].also = []string{notFound}
		}
	}
	back, err := p.recover(ctx, honest)
	// Again, for the policyd that has trusted it so far: a reload tests it.
	w.dns.SetEchoAD(true)
	err = errors.Join(err, s.p.Signal(syscall.SIGHUP), s.p.awaitLog(ctx, `result="echoes AD"`, 1))
	if err == nil {
		_, err = s.p.best(ctx, protected)
	}
	return back, err
}

// restarts stops the resolver, so that its port refuses, and starts it again.
func restarts(ctx context.Context, s *scene) (string, error) {
	w, back := s.world, ""
	for range s.count(4, 2) {
		err := errors.Join(w.dns.Close(), s.span(ctx, 15*time.Second, 5*time.Second))
		if err != nil {
			return "", err
		}
		if w.dns, err = s.resolver(w.dns.Addr()); err != nil {
			return "", err
		}
		w.publishAll()
		if back, err = s.p.recover(ctx, w.all); err != nil {
			return "", err
		}
	}
	return "the last time " + back, nil
}

// The servers that resolv.conf names in turn.
const first, second, untrusted = "127.0.0.1", "::1", "127.0.0.53"

// nameServers starts the resolvers and has resolv.conf name the first.
func nameServers(s *scene) error {
	s.named = map[string]*dnstest.Server{}
	for _, address := range []string{untrusted, second, first} {
		server, err := s.resolver(net.JoinHostPort(address, "53"))
		if err != nil {
			return err
		}
		s.named[address], s.world.dns = server, server
		s.world.publishAll()
	}
	return resolvConf(first)
}

func resolvConf(server string) error {
	const path = "/etc/resolv.conf"
	_ = os.Remove(path) // it may be a link
	return os.WriteFile(path, []byte("nameserver "+server+"\n"), 0o644)
}

// replaced changes resolv.conf to another resolver, to none for a moment, and to one that is not trusted.
func replaced(ctx context.Context, s *scene) (string, error) {
	w := s.world
	// The second one has a newer MX host of a signed domain: nothing of the first may be in its way.
	s.named[second].Set("k0.example", dns.TypeMX, dnstest.Answer{Secure: true, TTL: w.ttl,
		Records: []string{"MX 10 starttls-new.k0.example."}})
	moved := question{request: policyOf("k0.example"), best: secure("starttls-new.k0.example"),
		also: []string{secure("starttls-mx.k0.example")}, temp: true}
	others := w.all[len(signed.questions("")):]
	l := s.p.load(ctx, loading{connections: 4, pause: 20 * time.Millisecond, questions: append(others, moved)})
	if err := resolvConf(second); err != nil {
		return "", err
	}
	took, err := s.p.best(ctx, []question{moved})
	queries := s.named[second].Queries()
	err = errors.Join(err, os.Remove("/etc/resolv.conf"), wait(ctx, 3*time.Second), resolvConf(second))
	if err == nil {
		_, err = s.p.best(ctx, others)
	}
	if s.named[second].Queries() < queries {
		err = errors.Join(err, errors.New("the second resolver is no longer asked"))
	}
	asked, held := l.end()
	// With one that is not trusted nothing is secure; prefixes protect.
	if err = errors.Join(err, held, resolvConf(untrusted)); err == nil {
		err = s.p.awaitLog(ctx, "trusted=false", 1)
	}
	if err == nil {
		_, err = s.p.best(ctx, []question{
			{request: policyOf("k3.example"), best: notFound, temp: true},
			{request: policyOf("k0.example"), best: secure("starttls-mx.k0.example"), temp: true},
		})
	}
	return fmt.Sprintf("%s; used after %.1f s", asked, took.Seconds()), err
}
