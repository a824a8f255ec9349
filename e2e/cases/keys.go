package cases

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// Key is one question to policyd and the answer that it must get.
type Key struct {
	socketmap.Request
	// Answer is the text of an OK reply, or NOTFOUND, or TEMP.
	Answer string
}

const (
	notFound = "NOTFOUND"
	temp     = "TEMP"
)

// secure is the policy that binds these names.
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
	tlsa := func(data string, hosts ...string) {
		for _, h := range hosts {
			l.Records("_25._tcp." + h + ". TLSA " + data)
		}
	}
	const usable, unusable = "3 1 1 ", "1 1 1 "
	digest := strings.Repeat("ab", 32)

	// The same domains in each zone that validates, and in the unsigned one.
	for _, zone := range []string{"test", "nsec3.test", "unsigned.test"} {
		signed := zone != "unsigned.test"
		if1 := func(secure, insecure string) string {
			if signed {
				return secure
			}
			return insecure
		}
		name := func(label string) string { return label + "." + zone }
		l.MX(name("plain"), name("mx.plain"))
		l.MX(name("dane"), name("mx.dane"))
		l.MX(name("prefix"), name("starttls-mx.prefix"))
		l.MX(name("absent"), name("mx.dane")+" "+name("mx.plain"))
		l.MX(name("alias"), name("mx.alias"))
		address(name("mx.plain"), name("mx.dane"), name("starttls-mx.prefix"))
		l.Records(name("mx.alias") + ". CNAME " + name("mx.dane") + ".")
		tlsa(usable+digest, name("mx.dane"))
		key(name("plain"), notFound)
		key(name("dane"), if1("dane-only", notFound))
		key(name("prefix"), secure(name("starttls-mx.prefix")))
		key(name("absent"), if1("dane", notFound))
		key(name("alias"), if1("dane-only", notFound))
		key(name("no-such-name"), notFound)
	}

	// Bogus zones, and a bogus RRset in a sound zone.
	for _, zone := range []string{"expired.test", "wrongds.test"} {
		l.MX("bogus."+zone, "starttls-mx."+zone)
		address("starttls-mx." + zone)
		key("bogus."+zone, temp)
	}
	l.MX("tlsabroken.test", "mx.tlsabroken.test")
	address("mx.tlsabroken.test")
	tlsa(usable+digest, "mx.tlsabroken.test")
	key("tlsabroken.test", temp)

	// An unsigned MX RRset that names a signed host, and an alias that leaves the signed zone.
	l.MX("outside.unsigned.test", "mx.dane.test")
	key("outside.unsigned.test", "dane")
	l.MX("leaves.test", "mx.leaves.test")
	l.Records("mx.leaves.test. CNAME mx.plain.unsigned.test.")
	key("leaves.test", notFound)

	l.MX("unusable.test", "mx.unusable.test")
	address("mx.unusable.test")
	tlsa(unusable+digest, "mx.unusable.test")
	key("unusable.test", "dane")
	l.Records("nullmx.test. MX 0 .")
	key("nullmx.test", notFound)
	address("nomx.test")
	tlsa(usable+digest, "nomx.test")
	key("nomx.test", "dane-only")

	// More hosts than a UDP answer holds.
	const many = 24
	var hosts []string
	for i := range many {
		hosts = append(hosts, fmt.Sprintf("starttls-%02d.a-rather-long-name-for-the-host-of-a-large-set.many.test", i))
	}
	l.MX("many.test", strings.Join(hosts, " "))
	address(hosts...)
	key("many.test", secure(hosts...))

	l.MX("sts.test", "mx.sts.test")
	address("mx.sts.test")
	l.PolicyHost("sts.test", "1", lab.STS("enforce", "mx.sts.test"))
	key("sts.test", secure("mx.sts.test"))

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
