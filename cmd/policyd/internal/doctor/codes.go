package doctor

// Severity is how much a finding matters.
type Severity string

// The severities. Error: mail waits, loops, or is sent with less protection than policyd asks for. Warning: something
// should be changed. Untested: it could not be tested.
const (
	Error    Severity = "error"
	Warning  Severity = "warning"
	Untested Severity = "untested"
	Note     Severity = "note"
	OK       Severity = "ok"
)

// Code is a kind of finding.
type Code struct {
	Name     string
	Severity Severity
	Area     string
	// Why explains why it matters, in a report and in policyd-doctor(1).
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

// areas returns the areas in the order of a report.
func areas() []string {
	return []string{areaPolicyd, areaDNS, areaPostfix, areaTLS, areaRoute, areaRoots, areaSocket, areaOwn, areaEgress}
}

// Codes lists all kinds of findings, in the order of the examination.
func Codes() []Code {
	return []Code{
		{"not-root", Untested, areaPolicyd,
			"The tables, sockets and processes of Postfix can be closed to other users."},
		{"daemon-running", OK, areaPolicyd, "The daemon answers at its admin socket."},
		{"daemon-warning", Warning, areaPolicyd, "The daemon reports this warning, see policyd status."},
		{"daemon-silent", Untested, areaPolicyd,
			"The daemon does not answer at its admin socket, so its listeners and probe results are unknown."},
		{"settings-invalid", Error, areaPolicyd,
			"policyd does not start with this mistake, and a running daemon keeps its previous settings."},
		{"settings-warning", Warning, areaPolicyd, "The setting is valid and may still be a mistake."},

		{"resolver-validating", OK, areaDNS, "Answers can be secure."},
		{"resolver-untrusted", Warning, areaDNS,
			"The AD bit of these servers is not trusted, so no answer is secure: there is no DANE, and a forged MX " +
				"answer hides the promise."},
		{"resolver-not-validating", Warning, areaDNS,
			"No answer is secure: there is no DANE, and a forged MX answer hides the promise."},
		{"resolver-echoes-ad", Error, areaDNS,
			"The resolver sets the AD bit without validating. policyd detects that; Postfix does not."},
		{"resolver-silent", Error, areaDNS, "Without a resolver every lookup fails, and mail waits."},
		{"resolver-untested", Untested, areaDNS,
			"The resolver answers, but fails for the names of the self-test. It may have no connection to the " +
				"Internet."},
		{"resolver-same", OK, areaDNS, "Postfix asks the same servers as policyd."},
		{"resolver-differs", Warning, areaDNS,
			"Postfix uses the servers in resolv.conf to look up MX hosts and to validate DANE. If its answers " +
				"differ from those of policyd, mail waits."},
		{"chroot-resolver-same", OK, areaDNS, "The chroot has the same resolv.conf."},
		{"chroot-resolver-differs", Warning, areaDNS, "smtp(8) runs in the chroot and uses the servers in this copy."},

		{"postfix-missing", Warning, areaPostfix, "The configuration of Postfix could not be examined."},
		{"postfix-unreadable", Error, areaPostfix, "Postfix cannot read its configuration, or this user may not."},
		{"postfix-running", OK, areaPostfix, "Postfix uses the configuration that was examined."},
		{"postfix-not-running", Warning, areaPostfix,
			"No mail is delivered. If Postfix runs in another container or with another queue directory, ignore this."},
		{"postfix-not-reloaded", Warning, areaPostfix,
			"The running Postfix still uses the earlier configuration, at least in part; the findings here are " +
				"about the files."},
		{"postfix-state-unknown", Untested, areaPostfix, "It is unknown whether Postfix is running."},
		{"postfix-version", OK, areaPostfix, "Postfix understands all answers of policyd."},
		{"postfix-too-old", Error, areaPostfix,
			"Policies contain servername=, which Postfix supports since 3.4. Earlier versions defer the mail."},
		{"postfix-no-host-list", Warning, areaPostfix,
			"Routes can be lists of hosts, which Postfix supports since 3.5. Earlier versions cannot deliver the " +
				"mail."},
		{"smtp-level", OK, areaPostfix, "Other mail uses TLS where it is offered."},
		{"smtp-level-none", Warning, areaPostfix,
			"Mail to destinations without a policy is sent in plaintext even where TLS is offered."},
		{"dnssec-lookups-off", Error, areaPostfix,
			"Without DNSSEC lookups, Postfix defers mail under dane-only and treats dane as may: the host is not " +
				"verified."},
		{"dnssec-lookups", OK, areaPostfix, "Postfix requests DNSSEC."},
		{"dane-insecure-mx", Warning, areaPostfix,
			"Postfix does not enforce the TLSA records of a host if the MX RRset of the domain is unsigned."},
		{"global-wrappermode", Error, areaPostfix,
			"Postfix then uses implicit TLS on port 25 as well, which no server understands."},
		{"mx-address-limit", Warning, areaPostfix,
			"Hosts without a promise count towards the limit. If so many of them come first, Postfix never reaches " +
				"the host that keeps its promise, and mail waits until it bounces."},
		{"tls-required-header", Note, areaPostfix,
			"A message with the header TLS-Required: no (RFC 8689) skips the TLS policy: it can leave in plaintext " +
				"even for a host that promises TLS. Its sender asked for that."},
		{"tls-required-breaks-port26", Warning, areaPostfix,
			"Postfix 3.10.0 to 3.10.5 lowers the level to may for a message with TLS-Required: no, which breaks " +
				"implicit TLS: mail on port 26 waits."},
		{"tls-log-off", Note, areaPostfix, "The log does not show which deliveries were verified."},

		{"tls-map-present", OK, areaTLS, "Postfix asks policyd for TLS policies."},
		{"tls-map-missing", Error, areaTLS, "Postfix does not ask policyd, so no promise is enforced."},
		{"tls-map-shadowed", Note, areaTLS,
			"The first table with an answer wins; policyd is asked only for destinations that the tables before it " +
				"do not have. That is right if they hold your exceptions."},
		{"tls-map-tlsrpt-too-early", Error, areaTLS,
			"Postfix before 3.10 does not know the attributes of this map and defers the mail."},
		{"tls-map-no-tlsrpt", Warning, areaTLS,
			"Postfix does not get the MTA-STS policy: TLSRPT reports lack it, and from 3.10.5 Postfix cannot check " +
				"the names of MX hosts against it."},
		{"map-unknown", Error, areaTLS,
			"policyd does not serve a map of that name: it answers every request with an error, and the mail waits."},
		{"map-through-proxy", Warning, areaTLS,
			"proxymap(8) handles one request at a time, so a slow answer for one domain delays all others, routes " +
				"included."},
		{"service-without-policies", Warning, areaTLS,
			"Mail that this service delivers is not subject to the policies of policyd."},

		{"transport-map-present", OK, areaRoute, "Postfix asks policyd for routes."},
		{"transport-map-missing", Note, areaRoute,
			"No mail uses implicit TLS. All mail goes to port 25, where the TLS policies apply."},
		{"transport-map-unused", Warning, areaRoute,
			"Postfix asks for every address, and policyd never returns a route."},
		{"guard-present", OK, areaRoute, "Postfix does not ask policyd about the domains of this site."},
		{"guard-missing", Warning, areaRoute,
			"While policyd does not answer, mail for domains of this site waits too, and only the lists that " +
				"policyd reads prevent a mail loop."},
		{"guard-after", Error, areaRoute,
			"The first table with an answer wins, so a guard behind the socketmap has no effect."},
		{"relayhost-bypassed", Warning, areaRoute, "A route that policyd finds takes precedence over the relayhost."},
		{"service-present", OK, areaRoute, "The service uses implicit TLS and fails closed."},
		{"service-missing", Error, areaRoute, "Mail with a route to a service that does not exist is deferred."},
		{"service-no-wrappermode", Error, areaRoute,
			"The service would wait for a plaintext greeting that never comes, and the mail waits."},
		{"service-fails-open", Error, areaRoute,
			"Without a policy, the service would deliver without verifying the host."},
		{"service-fallback-relay", Warning, areaRoute,
			"The service would use implicit TLS to the fallback relay, on the port of that relay."},
		{"service-other-chroot", Note, areaRoute,
			"The service sees other files than smtp(8): resolv.conf, certificates, the socket."},

		{"roots-found", OK, areaRoots, "Certificates can be verified."},
		{"roots-missing", Error, areaRoots,
			"Without root certificates no certificate can be verified, and mail under a policy waits."},
		{"roots-unreadable", Error, areaRoots, "Postfix then cannot use TLS at all."},
		{"roots-not-in-chroot", Error, areaRoots,
			"Postfix reads smtp_tls_CApath inside the chroot. Nothing can be verified there, and mail under a " +
				"policy waits."},
		{"roots-differ", Warning, areaRoots,
			"policyd probes with other root certificates than Postfix verifies with, so a route may lead to a host " +
				"where mail then waits."},

		{"socket-answers", OK, areaSocket, "policyd answers."},
		{"socket-silent", Error, areaSocket,
			"Postfix defers all mail whose policy or route it cannot look up, including local mail."},
		{"socket-not-policyd", Error, areaSocket, "Another program answers there."},
		{"socket-outside-chroot", Error, areaSocket, "A process in the chroot cannot see an absolute path."},
		{"socket-forbidden", Error, areaSocket, "The processes of Postfix may not connect, so they defer the mail."},
		{"postmap-answers", OK, areaSocket, "Postfix's own client gets an answer."},
		{"postmap-fails", Error, areaSocket,
			"Postfix's own client gets no answer, so its daemons do not get one either."},

		{"own-domains-known", OK, areaOwn, "policyd returns no route for domains that this site receives."},
		{"own-domains-unknown", Warning, areaOwn,
			"While the domains that this site receives are unknown, no domain gets a route."},
		{"own-domain-unguarded", Warning, areaOwn,
			"The guard in transport_maps does not cover the domain: its mail waits while policyd does not answer."},
		{"own-domain-routed", Error, areaOwn, "A route for a domain that is received here causes a mail loop."},
		{"own-domain-covered", OK, areaOwn, "The guard in transport_maps covers it."},

		{"egress-open", OK, areaEgress, "The port is reachable from here."},
		{"egress-filtered", Warning, areaEgress,
			"Probes of many hosts have all failed. The port is probably blocked on this side, and all mail uses " +
				"port 25."},
		{"mta-sts-fetched", OK, areaEgress, "MTA-STS policies can be fetched from here."},
		{"mta-sts-blocked", Warning, areaEgress,
			"Fetching MTA-STS policies has failed for many domains and succeeded for none, so new domains are " +
				"treated as if they had no MTA-STS."},
		{"egress-untested", Untested, areaEgress, "It is unknown whether the port is reachable from here."},
	}
}
