package doctor

import "fmt"

// Severity is how much a finding matters.
type Severity uint8

// The severities. Error: mail waits, loops, or goes out weaker than policyd says. Warning: something should be
// changed. Untested: it could not be tested. The zero Severity is the worst.
const (
	Error Severity = iota
	Warning
	Untested
	Note
	OK
)

// String returns error, warning, untested, note or ok.
func (s Severity) String() string {
	return [...]string{"error", "warning", "untested", "note", "ok"}[min(int(s), int(OK))]
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes what MarshalText gives.
func (s *Severity) UnmarshalText(b []byte) error {
	for i := Error; i <= OK; i++ {
		if i.String() == string(b) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("%q is no severity", b)
}

// Code is a kind of finding.
type Code struct {
	Name     string
	Severity Severity
	Area     string
	// Why says why it matters; for people, and for policyd-doctor(1).
	Why string
}

// The areas that a code belongs to.
const (
	areaPolicyd = "policyd"
	areaDNS     = "DNS"
	areaPostfix = "Postfix"
	areaTLS     = "TLS policies"
	areaRoute   = "Route to implicit TLS"
	areaRoots   = "Certificate authorities"
	areaSocket  = "From Postfix to policyd"
	areaOwn     = "Domains of this site"
	areaEgress  = "Egress"
)

// areas are in the order in which they are shown.
func areas() []string {
	return []string{areaPolicyd, areaDNS, areaPostfix, areaTLS, areaRoute, areaRoots, areaSocket, areaOwn, areaEgress}
}

// Codes lists every finding there is, in the order of the examination.
func Codes() []Code {
	return []Code{
		{"daemon-running", OK, areaPolicyd, "The daemon answers at its admin socket."},
		{"daemon-warning", Warning, areaPolicyd, "The daemon itself reports it, see policyd status."},
		{"daemon-silent", Untested, areaPolicyd, "What the daemon knows, such as its listeners and its probes, could not be asked."},
		{"settings-warning", Warning, areaPolicyd, "It is possible and seldom meant."},

		{"resolver-validating", OK, areaDNS, "Answers can be secure."},
		{"resolver-untrusted", Warning, areaDNS, "The AD bit of these servers is not believed, so no answer is secure: no DANE, and a forged MX answer hides the promise."},
		{"resolver-not-validating", Warning, areaDNS, "No answer is secure: no DANE, and a forged MX answer hides the promise."},
		{"resolver-echoes-ad", Error, areaDNS, "The resolver claims a validation that it has not done. policyd sees through it; Postfix does not."},
		{"resolver-silent", Error, areaDNS, "Without a resolver every lookup fails, and mail waits."},
		{"resolver-untested", Untested, areaDNS, "The resolver answers, but fails for the names of the self-test: it may have no way to the Internet."},
		{"resolver-same", OK, areaDNS, "Postfix asks the same servers as policyd."},
		{"resolver-differs", Warning, areaDNS, "Postfix looks up MX hosts and validates DANE with the servers of resolv.conf. Where it sees other answers than policyd, mail waits."},
		{"chroot-resolver-same", OK, areaDNS, "The chroot has the same resolv.conf."},
		{"chroot-resolver-differs", Warning, areaDNS, "smtp(8) runs in the chroot and asks the servers that this copy names."},

		{"postfix-missing", Warning, areaPostfix, "Nothing of Postfix's configuration could be examined."},
		{"postfix-unreadable", Error, areaPostfix, "Postfix cannot read its configuration either, or this user may not."},
		{"postfix-version", OK, areaPostfix, "Everything that policyd answers is understood."},
		{"postfix-too-old", Error, areaPostfix, "Policies have servername=, which Postfix knows since 3.4; before, the mail is deferred."},
		{"postfix-no-host-list", Warning, areaPostfix, "Routes to some of a domain's hosts are lists, which Postfix knows since 3.5; before, it cannot deliver them."},
		{"smtp-level", OK, areaPostfix, "Other mail goes by TLS where it is offered."},
		{"smtp-level-none", Warning, areaPostfix, "Mail to destinations without a policy goes in the clear even where TLS is offered."},
		{"dnssec-lookups-off", Error, areaPostfix, "Without DNSSEC lookups Postfix defers mail under dane-only, and takes dane for may: the host is not verified."},
		{"dnssec-lookups", OK, areaPostfix, "Postfix asks for DNSSEC."},
		{"dane-insecure-mx", Warning, areaPostfix, "A host that publishes TLSA records is not held to them if its domain's MX RRset is unsigned."},
		{"global-wrappermode", Error, areaPostfix, "Implicit TLS is then spoken on port 25 too, where nobody understands it."},
		{"tls-log-off", Note, areaPostfix, "The log does not say which deliveries were verified."},

		{"tls-map-present", OK, areaTLS, "Postfix asks policyd for TLS policies."},
		{"tls-map-missing", Error, areaTLS, "Postfix does not ask policyd: no promise is kept."},
		{"tls-map-shadowed", Warning, areaTLS, "The first map that has an answer wins, and policyd is asked only for what the others do not know."},
		{"tls-map-tlsrpt-too-early", Error, areaTLS, "Before 3.10 Postfix does not know the attributes of this map and defers the mail."},
		{"tls-map-no-tlsrpt", Warning, areaTLS, "TLSRPT reports lack the MTA-STS policy."},
		{"map-unknown", Error, areaTLS, "policyd does not serve a map of that name: it answers every request with an error, and the mail waits."},
		{"map-through-proxy", Warning, areaTLS, "proxymap(8) asks one question at a time: a slow answer for one domain holds up all the others, routes included."},
		{"service-without-policies", Warning, areaTLS, "Mail that this service delivers goes out without policyd's policies."},

		{"transport-map-present", OK, areaRoute, "Postfix asks policyd for routes."},
		{"transport-map-missing", Note, areaRoute, "Nothing goes over implicit TLS. All mail goes to port 25, where the TLS policies hold."},
		{"transport-map-unused", Warning, areaRoute, "Postfix asks for every address and policyd never has a route."},
		{"guard-present", OK, areaRoute, "Mail for domains of this site does not ask policyd."},
		{"guard-missing", Warning, areaRoute, "While policyd does not answer, mail for domains of this site waits too; and nothing but policyd's own lists keeps it from looping."},
		{"guard-after", Error, areaRoute, "The first map that has an answer wins: a guard behind the socketmap guards nothing."},
		{"relayhost-bypassed", Warning, areaRoute, "A route that policyd finds is preferred to the relayhost."},
		{"service-present", OK, areaRoute, "The service speaks implicit TLS and fails closed."},
		{"service-missing", Error, areaRoute, "Mail with a route to a service that does not exist is deferred."},
		{"service-no-wrappermode", Error, areaRoute, "The service would wait for a greeting in the clear that never comes, and mail waits."},
		{"service-fails-open", Error, areaRoute, "Were the policy missing, the service would deliver without verifying the host."},
		{"service-fallback-relay", Warning, areaRoute, "The fallback relay would be spoken to in implicit TLS, on its own port."},
		{"service-other-chroot", Note, areaRoute, "The service sees other files than smtp(8): resolv.conf, certificates, the socket."},

		{"roots-found", OK, areaRoots, "Certificates can be verified."},
		{"roots-missing", Error, areaRoots, "Without certificate authorities no certificate verifies, and mail under a policy waits."},
		{"roots-unreadable", Error, areaRoots, "Postfix then has no TLS at all."},
		{"roots-not-in-chroot", Error, areaRoots, "smtp_tls_CApath is read from inside the chroot: nothing verifies there, and mail under a policy waits."},
		{"roots-differ", Warning, areaRoots, "policyd probes with other authorities than Postfix verifies with: a route may lead where mail then waits."},

		{"socket-answers", OK, areaSocket, "policyd answers."},
		{"socket-silent", Error, areaSocket, "Postfix defers all mail whose policy or route it cannot ask for, local mail included."},
		{"socket-not-policyd", Error, areaSocket, "Something else answers there."},
		{"socket-outside-chroot", Error, areaSocket, "A chrooted process does not see an absolute path."},
		{"socket-forbidden", Error, areaSocket, "Postfix's processes may not connect, and defer the mail."},
		{"postmap-answers", OK, areaSocket, "Postfix's own client gets an answer."},
		{"postmap-fails", Error, areaSocket, "Postfix's own client gets no answer, so its daemons get none either."},

		{"own-domains-known", OK, areaOwn, "policyd gives no route for what this site receives."},
		{"own-domains-unknown", Warning, areaOwn, "While it is not known what this site receives, no domain gets a route."},
		{"own-domain-unguarded", Warning, areaOwn, "The guard in transport_maps does not cover it: mail for it waits while policyd does not answer."},
		{"own-domain-routed", Error, areaOwn, "A route for a domain that is received here makes a mail loop."},
		{"own-domain-covered", OK, areaOwn, "The guard in transport_maps covers it."},

		{"egress-open", OK, areaEgress, "The port can be reached from here."},
		{"egress-filtered", Warning, areaEgress, "Probes of many hosts have all failed: the port is probably filtered on this side, and everything goes by port 25."},
		{"mta-sts-fetched", OK, areaEgress, "MTA-STS policies can be fetched from here."},
		{"mta-sts-blocked", Warning, areaEgress, "Fetching MTA-STS policies has failed for many domains and succeeded for none, so new domains are treated as if they had no MTA-STS."},
		{"egress-untested", Untested, areaEgress, "Whether the port can be reached from here is not known."},
	}
}
