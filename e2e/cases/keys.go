package cases

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// Key is one lookup and the answer that policyd must give.
type Key struct {
	socketmap.Request
	// Answer is the text of an OK reply, or NOTFOUND, or TEMP.
	Answer string
}

const (
	notFound = "NOTFOUND"
	temp     = "TEMP"
)

// secure returns the policy that requires one of these names.
func secure(names ...string) string {
	return "secure match=" + strings.Join(names, ":") + " servername=hostname"
}

// Keys adds to the lab domains of every kind, and returns one question about each. Nothing is delivered to them.
func Keys(l *lab.Lab) []Key {
	var keys []Key
	key := func(name, answer string) {
		keys = append(keys, Key{socketmap.Request{Map: "tls-policy", Key: name}, answer})
	}
	route := func(name, answer string) {
		keys = append(keys, Key{socketmap.Request{Map: "transport", Key: name}, answer})
	}
	address := func(hosts ...string) {
		for _, h := range hosts {
			l.Records(h+". A 127.40.0.1", h+". AAAA fd00:26::40:1")
		}
	}
	// domain is a domain with hosts of one preference that have addresses.
	domain := func(name, answer string, hosts ...string) {
		l.MX(name, strings.Join(hosts, " "))
		address(hosts...)
		key(name, answer)
	}
	tlsa := func(host, parameters string) {
		l.Records("_25._tcp." + host + ". TLSA " + parameters + strings.Repeat("ab", 32))
	}
	const usable, unusable = "3 1 1 ", "1 1 1 "

	// The same domains in each zone that validates, and in the unsigned one.
	for _, zone := range []string{".test", ".nsec3.test", ".unsigned.test"} {
		all, some := "dane-only", "dane" // of the hosts have TLSA records
		if zone == ".unsigned.test" {
			all, some = notFound, notFound
		}
		domain("plain"+zone, notFound, "mx.plain"+zone)
		domain("dane"+zone, all, "mx.dane"+zone)
		domain("prefix"+zone, secure("starttls-mx.prefix"+zone), "starttls-mx.prefix"+zone)
		tlsa("mx.dane"+zone, usable)
		l.MX("absent"+zone, "mx.dane"+zone+" mx.plain"+zone)
		key("absent"+zone, some)
		l.MX("alias"+zone, "mx.alias"+zone)
		l.Records("mx.alias" + zone + ". CNAME mx.dane" + zone + ".")
		key("alias"+zone, all)
		key("no-such-name"+zone, notFound)
	}

	// Bogus zones, and a bogus RRset in a sound zone.
	domain("bogus.expired.test", temp, "starttls-mx.expired.test")
	domain("bogus.wrongds.test", temp, "starttls-mx.wrongds.test")
	domain("tlsabroken.test", temp, "mx.tlsabroken.test")
	tlsa("mx.tlsabroken.test", usable)

	// An unsigned MX RRset that names a signed host, and an alias that leaves the signed zone.
	l.MX("outside.unsigned.test", "mx.dane.test")
	key("outside.unsigned.test", "dane")
	l.MX("leaves.test", "mx.leaves.test")
	l.Records("mx.leaves.test. CNAME mx.plain.unsigned.test.")
	key("leaves.test", notFound)

	domain("unusable.test", "dane", "mx.unusable.test")
	tlsa("mx.unusable.test", unusable)
	l.Records("nullmx.test. MX 0 .")
	key("nullmx.test", notFound)
	address("nomx.test")
	tlsa("nomx.test", usable)
	key("nomx.test", "dane-only")

	// More hosts than a UDP answer holds.
	const many = 24
	var hosts []string
	for i := range many {
		hosts = append(hosts, fmt.Sprintf("starttls-%02d.a-rather-long-name-for-the-host-of-a-large-set.many.test", i))
	}
	domain("many.test", secure(hosts...), hosts...)

	domain("sts.test", secure("mx.sts.test"), "mx.sts.test")
	l.PolicyHost("sts.test", "1", lab.STS("enforce", "mx.sts.test"))

	// Port 26, single hosts, routes.
	l.MX("smtps.test", "smtps-mx.smtps.test")
	address("smtps-mx.smtps.test")
	key("smtps.test:26", secure("smtps-mx.smtps.test"))
	key("[mx.dane.test]", "dane-only")
	key("[mx.plain.test]", notFound)
	key("[mx.dane.unsigned.test]", notFound)
	route("someone@smtps.test", "smtps26:smtps.test:26")
	route("someone@plain.test", notFound)
	route("someone@bogus.expired.test", notFound)
	return keys
}
