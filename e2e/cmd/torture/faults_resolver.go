package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// shortTTL has what is in the cache end during a fault.
const shortTTL = 2

func resolverFaults() []trial {
	const holds = "what is secure goes on to protect, the rest is TEMP and no route; "
	return []trial{
		{
			fault: "resolver: changes its mind from secure to insecure", play: changesItsMind,
			holds: "the secure answer is kept until it expires, and is not asked away by a refresh",
		},
		outage("resolver: dead", holds+"transport goes on answering in time", "a DNS server does not answer",
			func(s *dnstest.Server, on bool) { s.SetDead(on) }),
		outage("resolver: answers after 30 s", holds+"transport goes on answering in time", "a DNS server does not answer",
			func(s *dnstest.Server, on bool) { s.SetDelay(map[bool]time.Duration{true: 30 * time.Second}[on]) }),
		outage("resolver: answers garbage", holds+"nothing is read into it", "a DNS server does not answer … only messages that are no answer came",
			func(s *dnstest.Server, on bool) { s.SetGarbage(on) }),
		outage("resolver: answers after 2 s", "answers come late, or TEMP does; no route", "a DNS server answers late",
			func(s *dnstest.Server, on bool) { s.SetDelay(map[bool]time.Duration{true: 2 * time.Second}[on]) }),
		{fault: "resolver: lies about AD", play: liesAboutAD, holds: "nothing of it is taken for secure, from the first moment on; prefixes go on to protect; an honest resolver is believed again"},
		{fault: "resolver: restarts", play: restarts, holds: "no answer is weaker while it is gone, and the best ones come back by themselves each time"},
		{fault: "resolver: replaced in resolv.conf", root: true, play: replaced, holds: "the new one is followed and tested first, nothing of the old one is secure any more, and a file that is missing for a moment changes nothing"},
	}
}

// outage is a trial in which the resolver is broken for a while, for all that is known and for names that nobody has asked for.
func outage(fault, holds, log string, set func(*dnstest.Server, bool)) trial {
	return trial{fault: fault, holds: holds, play: func(ctx context.Context, s *scene) (string, error) {
		w, err := s.world(shortTTL)
		if err != nil {
			return "", err
		}
		p, err := s.start(ctx, w, setup{})
		if err != nil {
			return "", err
		}
		if err := p.warm(ctx, w); err != nil {
			return "", err
		}
		fresh := w.unknown(10)
		set(w.dns, true)
		l := p.load(ctx, loading{connections: 12, pause: 20 * time.Millisecond, questions: append(fresh, w.all...)})
		if err := wait(ctx, s.span(time.Minute, 20*time.Second)); err != nil {
			return "", err
		}
		set(w.dns, false)
		back, recovered := p.recover(ctx, append(fresh, w.all...))
		asked, held := l.end()
		line, unnamed := p.logged(log)
		return asked + "; " + back + "; " + line, errors.Join(held, recovered, unnamed)
	}}
}

// changesItsMind has the records change under an answer that is secure and lives.
func changesItsMind(ctx context.Context, s *scene) (string, error) {
	const ttl = 60 // what lives for less is not refreshed ahead
	w, err := s.world(ttl)
	if err != nil {
		return "", err
	}
	p, err := s.start(ctx, w, setup{})
	if err != nil {
		return "", err
	}
	if err := p.warm(ctx, w); err != nil {
		return "", err
	}
	began := time.Now()
	// Stripped, as an attacker would.
	domain := "k0.example"
	w.dns.Set(domain, dns.TypeMX, dnstest.Answer{TTL: ttl, Records: []string{"MX 10 mx.attacker.example."}})
	w.dns.Set("_25._tcp.mx.k3.example", dns.TypeTLSA, dnstest.Answer{TTL: ttl})
	before := w.dns.Asked(domain, dns.TypeMX)
	var questions []question
	for _, kind := range []facts{signed, withTLSA} {
		for _, q := range kind.questions(fmt.Sprintf("k%d.example", kind)) {
			q.temp = false
			questions = append(questions, q)
		}
	}
	l := p.load(ctx, loading{connections: 4, pause: 20 * time.Millisecond, questions: questions})
	const life = ttl*time.Second - 2*time.Second // what was asked for before began ends before began and a minute
	err = wait(ctx, life-time.Since(began))
	asked, held := l.end()
	line, unnamed := p.logged("a secure answer is kept against an insecure one")
	refreshed := w.dns.Asked(domain, dns.TypeMX) - before
	if refreshed == 0 {
		err = errors.Join(err, errors.New("nothing was refreshed, so nothing was tried"))
	}
	return fmt.Sprintf("%s; asked anew %d times; %s", asked, refreshed, line), errors.Join(err, held, unnamed)
}

// liesAboutAD has a resolver that copies the AD bit: from the start, and in the middle of life.
func liesAboutAD(ctx context.Context, s *scene) (string, error) {
	w, err := s.world(shortTTL)
	if err != nil {
		return "", err
	}
	// TLSA records that nobody has signed: with an AD bit that is an echo they would be DANE.
	forged := socketmap.Request{Map: "tls-policy", Key: "forged.example"}
	plain.publish(w.dns, forged.Key, shortTTL)
	w.dns.Set("_25._tcp."+plain.host(forged.Key), dns.TypeTLSA, dnstest.Answer{TTL: shortTTL, Records: []string{"TLSA 3 1 1 " + strings.Repeat("ab", 32)}})
	w.dns.SetEchoAD(true)
	p, err := s.start(ctx, w, setup{})
	if err != nil {
		return "", err
	}
	protected := append(signed.questions("k0.example"), unsigned.questions("k1.example")...)
	lied := append(protected, question{request: forged, best: notFound, temp: true})
	if _, err := p.best(ctx, lied); err != nil {
		return "", err
	}
	line, unnamed := p.logged(`result="echoes AD"`)
	w.dns.SetEchoAD(false)
	l := p.load(ctx, loading{connections: 4, pause: 20 * time.Millisecond, questions: lied})
	// Until the next self-test nothing is secure, and there is no DANE.
	honest := slices.Clone(w.all)
	for i := range honest {
		honest[i].also = append(slices.Clone(honest[i].also), map[bool]string{true: notFound}[honest[i].best == "OK dane-only"])
	}
	back, recovered := p.recover(ctx, honest)
	// And again, noticed by the next self-test: a reload asks for one.
	w.dns.SetEchoAD(true)
	again := p.Signal(syscall.SIGHUP)
	if err := p.awaitLogTimes(ctx, `result="echoes AD"`, 2); err != nil {
		again = errors.Join(again, err)
	}
	if _, err := p.best(ctx, lied); err != nil {
		again = errors.Join(again, err)
	}
	asked, held := l.end()
	return asked + "; " + back + "; " + line, errors.Join(unnamed, recovered, again, held)
}

// restarts stops the resolver, so that its port refuses, and starts it again, some times.
func restarts(ctx context.Context, s *scene) (string, error) {
	w, err := s.world(shortTTL)
	if err != nil {
		return "", err
	}
	p, err := s.start(ctx, w, setup{})
	if err != nil {
		return "", err
	}
	if err := p.warm(ctx, w); err != nil {
		return "", err
	}
	l := p.load(ctx, loading{connections: 8, pause: 20 * time.Millisecond, questions: w.all})
	times := s.count(4, 2)
	slowest := ""
	for range times {
		address := w.dns.Addr()
		if err := w.dns.Close(); err != nil {
			return "", err
		}
		if err := wait(ctx, s.span(15*time.Second, 7*time.Second)); err != nil {
			return "", err
		}
		if w.dns, err = s.resolver(address); err != nil {
			return "", err
		}
		w.publish()
		if slowest, err = p.recover(ctx, w.all); err != nil {
			return "", err
		}
	}
	asked, held := l.end()
	line, unnamed := p.logged("a DNS server does not answer")
	return fmt.Sprintf("%d restarts; %s; the last time %s; %s", times, asked, slowest, line), errors.Join(held, unnamed)
}

// replaced has resolv.conf name another resolver, none, and one that is not trusted.
func replaced(ctx context.Context, s *scene) (string, error) {
	const conf, first, second, untrusted = "/etc/resolv.conf", "127.0.10.1", "127.0.10.2", "127.0.0.53"
	w, err := s.world(300)
	if err != nil {
		return "", err
	}
	name := func(server string) error {
		_ = os.Remove(conf) // it may be a link
		return os.WriteFile(conf, []byte("nameserver "+server+"\n"), 0o644)
	}
	var servers []*dnstest.Server
	for _, address := range []string{first, second, untrusted} {
		server, err := s.resolver(address + ":53")
		if err != nil {
			return "", err
		}
		w.dns = server
		w.publish()
		servers = append(servers, server)
	}
	if err := name(first); err != nil {
		return "", err
	}
	p, err := s.start(ctx, w, setup{resolvConf: true})
	if err != nil {
		return "", err
	}
	if err := p.warm(ctx, w); err != nil {
		return "", err
	}
	l := p.load(ctx, loading{connections: 4, pause: 20 * time.Millisecond, questions: w.all})
	// The second one knows a newer MX host of a signed domain: nothing of the first may be in its way.
	moved := question{request: socketmap.Request{Map: "tls-policy", Key: "k0.example"}, best: secure("starttls-new.k0.example"), also: []string{secure("starttls-mx.k0.example")}, temp: true}
	l.mu.Lock()
	for i := range l.question {
		if l.question[i].best == moved.also[0] {
			l.question[i].also = []string{moved.best}
		}
	}
	l.mu.Unlock()
	servers[1].Set("k0.example", dns.TypeMX, dnstest.Answer{Secure: true, TTL: 300, Records: []string{"MX 10 starttls-new.k0.example."}})
	if err := name(second); err != nil {
		return "", err
	}
	took, err := p.best(ctx, []question{moved})
	if err != nil {
		return "", err
	}
	// Missing for a moment.
	queries := servers[1].Queries()
	if err := errors.Join(os.Remove(conf), wait(ctx, 3*time.Second), name(second)); err != nil {
		return "", err
	}
	if _, err := p.best(ctx, w.all[3:]); err != nil || servers[1].Queries() < queries {
		return "", errors.Join(err, errors.New("the second resolver is not asked any more"))
	}
	asked, held := l.end()
	// One that is not trusted: nothing is secure, prefixes protect.
	if err := name(untrusted); err != nil {
		return "", err
	}
	if err := p.awaitLog(ctx, "trusted=false"); err != nil {
		return "", err
	}
	_, err = p.best(ctx, []question{
		{request: socketmap.Request{Map: "tls-policy", Key: "k3.example"}, best: notFound, temp: true},
		{request: socketmap.Request{Map: "tls-policy", Key: "k0.example"}, best: secure("starttls-mx.k0.example"), temp: true},
	})
	line, unnamed := p.logged("DNS servers or the trust in them changed")
	return fmt.Sprintf("%s; followed after %.1f s; %s", asked, took.Seconds(), line), errors.Join(held, err, unnamed)
}
