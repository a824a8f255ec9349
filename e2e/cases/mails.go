package cases

import (
	"strings"

	"github.com/policyd/policyd/e2e/lab"
)

// promiseMails go to hosts with a prefix, which keep or break the promise, and to hosts without one.
func promiseMails() []mail {
	return []mail{
		{name: "starttls- host that keeps its promise: verified", domain: "good.test",
			hosts: []host{good("starttls-mx")}, by: "starttls-mx"},
		{name: "STARTTLS stripped: waits, nothing in plaintext", domain: "stripped.test",
			hosts: []host{stripped("starttls-mx")}, reason: "TLS is required, but was not offered"},
		{name: "STARTTLS refused: waits, nothing in plaintext", domain: "refused.test",
			hosts: []host{does("starttls-mx", lab.Refuses, lab.Closed)}, reason: "TLS is required, but host"},
		{name: "STARTTLS stalls: waits, nothing in plaintext", domain: "stalls.test",
			hosts: []host{does("starttls-mx", lab.StallsTLS, lab.Closed)}, reason: "Cannot start TLS"},
		{name: "certificate for another name: waits", domain: "othername.test",
			hosts: []host{flawed("starttls-mx", lab.OtherName)}, reason: "Server certificate not verified"},
		{name: "self-signed certificate: waits", domain: "selfsigned.test",
			hosts: []host{flawed("starttls-mx", lab.SelfSigned)}, reason: "Server certificate not"},
		{name: "expired certificate: waits", domain: "expiredcert.test",
			hosts: []host{flawed("starttls-mx", lab.ExpiredCert)}, reason: "Server certificate not"},
		{name: "plain domain without TLS: delivered as before", domain: "plain.test", hosts: []host{stripped("mx")},
			by: "mx", tls: inClear},
		{name: "plain domain with self-signed STARTTLS: delivered as before", domain: "plaintls.test",
			hosts: []host{flawed("mx", lab.SelfSigned)}, by: "mx", tls: "Untrusted"},
		// An attacker may have added the other host, or made the prefixed one unreachable.
		{name: "mixed set: only the prefixed host gets the mail", domain: "mixed.test",
			hosts: []host{good("mx"), good("starttls-mx")}, by: "starttls-mx"},
		{name: "mixed set, prefixed host stripped: waits, not sent to the other", domain: "mixedstripped.test",
			hosts: []host{stripped("starttls-mx"), good("mx")}},
		{name: "six hosts, only the last has the prefix: verified", domain: "six.test",
			hosts: []host{good("a"), good("b"), good("c"), good("d"), good("e"), good("starttls-f")}, by: "starttls-f"},
		{name: "smtps- host, mode always: port 26 with implicit TLS", domain: "always.test",
			hosts: []host{smtps("smtps-mx")}, by: "smtps-mx", on26: true},
	}
}

// nameMails are about the ways in which the DNS names, denies or garbles the MX hosts of a domain.
func nameMails() []mail {
	return []mail{
		{name: "zone signed with NSEC3: verified", domain: "nsec3.test", hosts: []host{good("starttls-mx")},
			by: "starttls-mx"},
		{name: "unsigned zone: the promise counts too", domain: "unsigned.test",
			hosts: []host{good("starttls-mx")}, by: "starttls-mx"},
		{name: "unsigned zone, STARTTLS stripped: waits", domain: "stripped.unsigned.test",
			hosts: []host{stripped("starttls-mx")}, reason: "TLS is required"},
		// This is what a forged answer looks like.
		{name: "bogus zone (signatures expired): waits", domain: "expired.test", hosts: []host{good("starttls-mx")},
			answer: temp},
		{name: "bogus zone (DS of another key): waits", domain: "wrongds.test", hosts: []host{good("starttls-mx")},
			answer: temp},
		{name: "a CNAME into a signed zone: verified", domain: "alias-to.test", to: "alias.test",
			records: []string{"alias.test. CNAME alias-to.test."}, hosts: []host{good("starttls-mx")},
			by: "starttls-mx"},
		{name: "a CNAME into an unsigned zone: verified", domain: "alias-to.unsigned.test", to: "alias-out.test",
			records: []string{"alias-out.test. CNAME alias-to.unsigned.test."}, hosts: []host{good("starttls-mx")},
			by: "starttls-mx"},
		{name: "wildcard MX: verified", domain: "wild.test", to: "any.thing.wild.test", noMX: true,
			records: []string{"*.wild.test. MX 10 starttls-mx.wild.test."}, hosts: []host{good("starttls-mx")},
			by: "starttls-mx"},
		{name: "null MX: Postfix returns the mail, policyd has no policy", domain: "nullmx.test",
			records: []string{"nullmx.test. MX 0 ."}, answer: notFound, status: "bounced", reason: "nullMX"},
		// The name looks like a promise, which an implicit MX never makes.
		{name: "no MX, the domain's own address: delivered as before", domain: "starttls-nomx.test", noMX: true,
			hosts: []host{stripped("starttls-nomx.test")}, by: "starttls-nomx.test", tls: inClear},
	}
}

// layerMails are about domains with DANE, with MTA-STS, with prefixes, and with several of them.
func layerMails() []mail {
	foreign := " " + strings.Repeat("ab", 32)
	return []mail{
		{name: "DANE-EE, self-signed: dane-only, verified", domain: "dane.test", hosts: []host{dane("mx")},
			answer: "dane-only", by: "mx"},
		{name: "prefix and DANE, self-signed: dane-only, verified", domain: "prefixdane.test",
			hosts: []host{dane("starttls-mx")}, answer: "dane-only", by: "starttls-mx"},
		// RFC 7672 section 2.2.1. Postfix calls it trusted and not verified, as the name of the host is not authentic.
		{name: "unsigned MX, host with TLSA: dane, matched", domain: "daneinsecure.unsigned.test",
			hosts: []host{dane("mx.outside.test")}, answer: "dane", by: "mx.outside.test", tls: "Trusted"},
		// MTA-STS would accept the certificate, and never overrides DANE (RFC 8461 section 2).
		{name: "TLSA of another key, valid MTA-STS: waits", domain: "danewrong.test",
			hosts: []host{withTLSA(good("mx"), "3 1 1"+foreign)},
			sts:   "enforce mx", answer: "dane-only", reason: "not"},
		{name: "TLSA bogus: waits", domain: "tlsabroken.test", hosts: []host{withTLSA(good("mx"), own)}, answer: temp},
		// TLS is mandatory, but the server is not authenticated (RFC 7672 section 2.2).
		{name: "TLSA unusable, STARTTLS stripped: waits", domain: "daneunusable.test",
			hosts: []host{withTLSA(stripped("mx"), "1 1 1"+foreign)}, answer: "dane", reason: "TLS is required"},
		// Postfix never uses the host that only the MTA-STS policy authenticates.
		{name: "two hosts, TLSA at the first, MTA-STS: the first", domain: "first.test",
			hosts: []host{dane("a"), good("b")}, sts: "enforce a b", answer: "dane-only", by: "a"},
		{name: "two hosts, TLSA at the second, MTA-STS: the second", domain: "second.test",
			hosts: []host{good("a"), dane("b")}, sts: "enforce a b", answer: "dane-only", by: "b"},
		{name: "two hosts, the one with TLSA down, MTA-STS: waits", domain: "firstdown.test",
			hosts: []host{withTLSA(does("a", lab.Closed, lab.Closed), "3 1 1"+foreign),
				good("b")}, sts: "enforce a b", answer: "dane-only"},
		{name: "two hosts, the one with TLSA stripped, MTA-STS: waits", domain: "firststripped.test",
			hosts: []host{withTLSA(stripped("a"), "3 1 1"+foreign),
				good("b")}, sts: "enforce a b", answer: "dane-only"},
		{name: "two hosts, the one with TLSA down, prefix: waits", domain: "prefixdown.test",
			hosts: []host{withTLSA(does("starttls-a", lab.Closed, lab.Closed), "3 1 1"+foreign),
				good("starttls-b")}, answer: "dane-only"},
		{name: "MTA-STS enforce: verified", domain: "sts.test", hosts: []host{good("mx")}, sts: "enforce *.sts.test",
			answer: secure("mx.sts.test"), by: "mx"},
		{name: "MTA-STS enforce, MX outside the policy: waits", domain: "stsoutside.test", hosts: []host{good("evil")},
			sts: "enforce mx"},
		{name: "MTA-STS testing, MX outside the policy: delivered as before", domain: "ststesting.test",
			hosts: []host{stripped("mx")}, sts: "testing other", by: "mx", tls: inClear},
		{name: "prefix and MTA-STS: the host that both allow", domain: "stsprefix.test",
			hosts: []host{good("mx"), good("starttls-outside"),
				good("starttls-mx")}, sts: "enforce mx starttls-mx", by: "starttls-mx"},
		{name: "prefix outside the MTA-STS policy: the policy decides", domain: "stsconflict.test",
			hosts: []host{good("starttls-mx"), good("mx")}, sts: "enforce mx", by: "mx"},
	}
}

// reportMails are about reports to a TLSRPT collector (RFC 8460): Postfix sends the policy that it got from policyd.
func reportMails() []mail {
	// The types as libtlsrpt numbers them.
	const sts, noPolicy = `"policy-type":2`, `"policy-type":9`
	enforced := func(domain string) []string {
		return []string{sts, `"policy-domain":"` + domain + `"`, `"version: STSv1"`, `"mode: enforce"`,
			`"mx: mx.` + domain + `"`}
	}
	// docs/decisions/0008 rests on this: with the attributes of an MTA-STS policy at the level may, Postfix reports a
	// success whatever is wrong.
	may := func(domain string, f lab.Flaw, attributes string) mail {
		return mail{name: "TLSRPT: Postfix reports success for " + domain, domain: domain,
			hosts: []host{flawed("mx", f)}, by: "mx", tls: anyTLS, report: []string{sts, `"t":0,"f":0`},
			table: "may policy_type=sts policy_domain=" + domain + " " + attributes}
	}
	return []mail{
		{name: "TLSRPT: an MTA-STS policy that is kept", domain: "ststold.test", hosts: []host{good("mx")},
			sts: "enforce mx", by: "mx", report: enforced("ststold.test")},
		{name: "TLSRPT: an MTA-STS policy that is broken", domain: "stsbroken.test", hosts: []host{stripped("mx")},
			sts: "enforce mx", reason: "TLS is required", report: enforced("stsbroken.test")},
		{name: "TLSRPT: a prefix is reported as no policy", domain: "told.test", hosts: []host{good("starttls-mx")},
			by: "starttls-mx", report: []string{noPolicy}},
		// Postfix 3.10.5 and later connect only to the hosts that both allow.
		{name: "TLSRPT: a prefix with an enforced policy", domain: "twice.test",
			hosts: []host{good("mx"), good("starttls-mx")}, sts: "enforce *.twice.test", by: "starttls-mx",
			report: []string{sts, `"mx: *.twice.test"`, `"mx-host":["starttls-mx.twice.test"]`}},
		// policyd cannot report anything true about this policy (docs/decisions/0008).
		{name: "TLSRPT: a policy in mode testing is reported as no policy", domain: "trial.test",
			hosts: []host{flawed("mx", lab.OtherName)}, sts: "testing mx", by: "mx", tls: anyTLS,
			report: []string{noPolicy}},
		may("may.test", lab.OtherName, "{ policy_string = version: STSv1 } { policy_string = mode: testing } "+
			"{ policy_string = mx: mx.may.test } { policy_string = max_age: 86400 } mx_host_pattern=mx.may.test"),
		may("nofetch.test", lab.Good, "policy_failure=sts-policy-fetch-error"),
	}
}
