package cases

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/lab/zone"
	"github.com/policyd/policyd/socketmap"
)

// layers are domains with DANE, MTA-STS, prefixes, and several of them.
func layers(l *lab.Lab) []Case {
	return []Case{
		daneEE(l, "dane.test", "mx.dane.test", "DANE-EE, self-signed: dane-only, verified"),
		daneEE(l, "prefixdane.test", "starttls-mx.prefixdane.test", "prefix and DANE, self-signed: dane-only, verified"),
		daneInsecure(l),
		daneMismatch(l),
		daneBroken(l),
		daneUnusable(l),
		stsEnforce(l),
		stsOutside(l),
		stsTesting(l),
		stsRotated(l),
		stsPrefix(l),
		stsPrefixConflict(l),
	}
}

// answers checks what the map tls-policy says.
func answers(ctx context.Context, l *lab.Lab, domain, text string) error {
	r, err := l.Policyd.Ask(ctx, "tls-policy", domain)
	if err == nil && r.Text != text {
		err = fmt.Errorf("the policy for %s is %q", domain, r)
	}
	return err
}

func daneEE(l *lab.Lab, domain, host, name string) Case {
	r := l.Host(lab.Host{Name: host, On25: lab.STARTTLS, Flaw: lab.SelfSigned})
	l.MX(domain, r.Name)
	l.TLSA(r, 25)
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(r.Name), "someone@"+domain)
		if err != nil {
			return line, err
		}
		return line, errors.Join(answers(ctx, l, domain, "dane-only"), received(r, m))
	}}
}

// daneInsecure has unsigned MX records that name a host in a signed zone (RFC 7672 section 2.2.1).
func daneInsecure(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.outside.test", On25: lab.STARTTLS, Flaw: lab.SelfSigned})
	l.MX("daneinsecure.unsigned.test", r.Name)
	l.TLSA(r, 25)
	return Case{Name: "unsigned MX, host with TLSA: dane, matched", Run: func(ctx context.Context) (string, error) {
		// Postfix calls it trusted, not verified, as the name of the host was not to be trusted.
		w := verified(r.Name)
		w.tls = "Trusted"
		m, line, err := attempt(ctx, l, w, "someone@daneinsecure.unsigned.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(answers(ctx, l, "daneinsecure.unsigned.test", "dane"), received(r, m))
	}}
}

// daneMismatch has a certificate that MTA-STS is content with: DANE is never overridden by it (RFC 8461 section 2).
func daneMismatch(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.danewrong.test", On25: lab.STARTTLS})
	l.MX("danewrong.test", r.Name)
	l.Records("_25._tcp.mx.danewrong.test. TLSA 3 1 1 " + strings.Repeat("ab", 32))
	l.PolicyHost("danewrong.test", "1", lab.STS("enforce", r.Name))
	return Case{Name: "TLSA of another key, valid MTA-STS: waits", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, want{status: "deferred", reason: "not"}, "someone@danewrong.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(answers(ctx, l, "danewrong.test", "dane-only"), untouched(r, m))
	}}
}

// daneBroken has a TLSA RRset whose signature does not fit, as after an attack on it.
func daneBroken(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.tlsabroken.test", On25: lab.STARTTLS})
	l.MX("tlsabroken.test", r.Name)
	l.TLSA(r, 25)
	return Case{Name: "TLSA bogus: waits", Run: func(ctx context.Context) (string, error) {
		policy, err := l.Policyd.Ask(ctx, "tls-policy", "tlsabroken.test")
		if err != nil {
			return "", err
		}
		if policy.Status != socketmap.StatusTemp {
			return "", fmt.Errorf("the policy is %q", policy)
		}
		m, line, err := attempt(ctx, l, want{status: "deferred"}, "someone@tlsabroken.test")
		if err != nil {
			return line, err
		}
		return line, untouched(r, m)
	}}
}

// daneUnusable has secure TLSA records of a kind that SMTP does not use: TLS, but nobody is verified (RFC 7672 section 2.2).
func daneUnusable(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.daneunusable.test", On25: lab.Clear})
	l.MX("daneunusable.test", r.Name)
	l.Records("_25._tcp.mx.daneunusable.test. TLSA 1 1 1 " + strings.Repeat("ab", 32))
	return Case{Name: "TLSA unusable, STARTTLS stripped: waits", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, want{status: "deferred", reason: "TLS is required"}, "someone@daneunusable.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(answers(ctx, l, "daneunusable.test", "dane"), untouched(r, m))
	}}
}

func stsEnforce(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.sts.test", On25: lab.STARTTLS})
	l.MX("sts.test", r.Name)
	l.PolicyHost("sts.test", "1", lab.STS("enforce", "*.sts.test"))
	return Case{Name: "MTA-STS enforce: verified", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(r.Name), "someone@sts.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(answers(ctx, l, "sts.test", "secure match=mx.sts.test servername=hostname"), received(r, m))
	}}
}

// stsOutside has an MX host, with a good certificate, that the policy does not know.
func stsOutside(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "evil.stsoutside.test", On25: lab.STARTTLS})
	l.MX("stsoutside.test", r.Name)
	l.PolicyHost("stsoutside.test", "1", lab.STS("enforce", "mx.stsoutside.test"))
	return Case{Name: "MTA-STS enforce, MX outside the policy: waits", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, want{status: "deferred"}, "someone@stsoutside.test")
		if err != nil {
			return line, err
		}
		return line, untouched(r, m)
	}}
}

func stsTesting(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.ststesting.test", On25: lab.Clear})
	l.MX("ststesting.test", r.Name)
	l.PolicyHost("ststesting.test", "1", lab.STS("testing", "other.ststesting.test"))
	return Case{Name: "MTA-STS testing, MX outside the policy: delivered as before", Run: func(ctx context.Context) (string, error) {
		w := want{status: "sent", relay: r.Name + ":25", inClear: true}
		_, line, err := attempt(ctx, l, w, "someone@ststesting.test")
		return line, err
	}}
}

// stsRotated moves to another host while the old policy would be good for a week.
func stsRotated(l *lab.Lab) Case {
	before := l.Host(lab.Host{Name: "before.rotated.test", On25: lab.STARTTLS})
	after := l.Host(lab.Host{Name: "after.rotated.test", On25: lab.STARTTLS})
	l.Records("rotated.test. 1 MX 10 " + before.Name + ".")
	web := l.PolicyHost("rotated.test", "1", lab.STS("enforce", before.Name))
	return Case{Name: "MTA-STS rotated: the new host is believed at once", Run: func(ctx context.Context) (string, error) {
		if _, line, err := attempt(ctx, l, verified(before.Name), "first@rotated.test"); err != nil {
			return line, err
		}
		web.Set(lab.STS("enforce", after.Name))
		err := errors.Join(
			l.Replace(ctx, zone.RRset{Owner: "_mta-sts.rotated.test.", Type: "TXT", TTL: 1, Data: []string{fmt.Sprintf("%q", lab.Announcement("2"))}}),
			l.Replace(ctx, zone.RRset{Owner: "rotated.test.", Type: "MX", TTL: 1, Data: []string{"10 " + after.Name + "."}}))
		if err != nil {
			return "", err
		}
		// Both records live for a second.
		wanted := "secure match=" + after.Name + " servername=hostname"
		err = l.Policyd.Until(ctx, lab.Question{Map: "tls-policy", Key: "rotated.test"}, func(r socketmap.Reply) bool { return r.Text == wanted })
		if err != nil {
			return "", err
		}
		m, line, err := attempt(ctx, l, verified(after.Name), "second@rotated.test")
		if err != nil {
			return line, err
		}
		return line, received(after, m)
	}}
}

// stsPrefix has two hosts that the policy allows, one of which promises more.
func stsPrefix(l *lab.Lab) Case {
	bare := l.Host(lab.Host{Name: "mx.stsprefix.test", On25: lab.STARTTLS})
	kept := l.Host(lab.Host{Name: "starttls-mx.stsprefix.test", On25: lab.STARTTLS})
	outside := l.Host(lab.Host{Name: "starttls-outside.stsprefix.test", On25: lab.STARTTLS})
	l.MX("stsprefix.test", bare.Name, outside.Name, kept.Name)
	l.PolicyHost("stsprefix.test", "1", lab.STS("enforce", bare.Name, kept.Name))
	return Case{Name: "prefix and MTA-STS: the host that both allow", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(kept.Name), "someone@stsprefix.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(received(kept, m), untouched(bare, m), untouched(outside, m))
	}}
}

// stsPrefixConflict has no host that both allow: the MTA-STS policy decides alone.
func stsPrefixConflict(l *lab.Lab) Case {
	bare := l.Host(lab.Host{Name: "mx.stsconflict.test", On25: lab.STARTTLS})
	outside := l.Host(lab.Host{Name: "starttls-mx.stsconflict.test", On25: lab.STARTTLS})
	l.MX("stsconflict.test", outside.Name, bare.Name)
	l.PolicyHost("stsconflict.test", "1", lab.STS("enforce", bare.Name))
	return Case{Name: "prefix outside the MTA-STS policy: the policy decides", Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(bare.Name), "someone@stsconflict.test")
		if err != nil {
			return line, err
		}
		return line, errors.Join(received(bare, m), untouched(outside, m))
	}}
}
