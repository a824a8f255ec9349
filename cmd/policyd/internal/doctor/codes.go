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

// Area is a part of a report.
type Area struct {
	Name  string
	Codes []Code
}

// Code is a kind of finding. Why explains why it matters, in a report and in policyd-doctor(1).
type Code struct {
	Name     string
	Severity Severity
	Why      string
}

// Areas lists all kinds of findings, in the order of a report.
func Areas() []Area {
	return []Area{
		{"policyd", []Code{
			{"not-root", Untested, "The tables, sockets and processes of Postfix can be closed to other users."},
			{"daemon-running", OK, "The daemon answers at its admin socket."},
			{"daemon-warning", Warning, "The daemon reports this warning, see policyd status."},
			{"daemon-silent", Untested, "The daemon does not answer, so its listeners and probe results are unknown."},
			{"settings-invalid", Error,
				"policyd does not start with this mistake, and a running daemon keeps its previous settings."},
			{"settings-warning", Warning, "The setting is valid and may still be a mistake."},
		}},
		{"DNS", []Code{
			{"resolver-validating", OK, "Answers can be secure."},
			{"resolver-untrusted", Warning,
				"No answer of these servers is secure: there is no DANE, and a forged MX answer hides the promise."},
			{"resolver-not-validating", Warning,
				"No answer is secure: there is no DANE, and a forged MX answer hides the promise."},
			{"resolver-echoes-ad", Error,
				"The resolver sets the AD bit without validating. policyd detects that; Postfix does not."},
			{"resolver-silent", Error, "Without a resolver every lookup fails, and mail waits."},
			{"resolver-untested", Untested,
				"The resolver fails for the names of the self-test. It may have no connection to the Internet."},
			{"resolver-same", OK, "Postfix asks the same servers as policyd."},
			{"resolver-differs", Warning,
				"Postfix uses the servers in resolv.conf to look up MX hosts and to validate DANE. If its answers " +
					"differ from those of policyd, mail waits."},
			{"chroot-resolver-same", OK, "The chroot has the same resolv.conf."},
			{"chroot-resolver-differs", Warning, "smtp(8) runs in the chroot and uses the servers in this copy."},
		}},
		{"Postfix", []Code{
			{"postfix-missing", Warning, "The configuration of Postfix could not be examined."},
			{"postfix-unreadable", Error, "Postfix cannot read its configuration, or this user may not."},
			{"postfix-running", OK, "Postfix uses the configuration that was examined."},
			{"postfix-not-running", Warning,
				"No mail is delivered, unless Postfix runs in another container or with another queue directory."},
			{"postfix-not-reloaded", Warning,
				"The running Postfix still uses the earlier configuration; the findings here are about the files."},
			{"postfix-state-unknown", Untested, "It is unknown whether Postfix is running."},
			{"postfix-version", OK, "Postfix understands all answers of policyd."},
			{"postfix-too-old", Error, "Postfix before 3.4 does not know servername= in policies, and defers mail."},
			{"postfix-no-host-list", Warning,
				"Routes can be lists of hosts. Postfix before 3.5 cannot deliver mail with such a route."},
			{"smtp-level", OK, "Other mail uses TLS where it is offered."},
			{"smtp-level-none", Warning,
				"Mail to destinations without a policy is sent in plaintext even where TLS is offered."},
			{"dnssec-lookups-off", Error,
				"Postfix then defers mail under dane-only, and treats dane as may: the host is not verified."},
			{"dnssec-lookups", OK, "Postfix requests DNSSEC."},
			{"dane-insecure-mx", Warning,
				"If the MX RRset of a domain is unsigned, Postfix does not enforce the TLSA records of its hosts."},
			{"global-wrappermode", Error,
				"Postfix then uses implicit TLS on port 25 as well, which no server understands."},
			{"mx-address-limit", Warning,
				"Hosts without a promise count towards the limit. If so many of them come first, Postfix never " +
					"reaches the host that keeps its promise, and mail waits until it bounces."},
			{"tls-required-header", Note,
				"A message with the header TLS-Required: no (RFC 8689) skips the TLS policy: it can leave in " +
					"plaintext even for a host that promises TLS. Its sender asked for that."},
			{"tls-required-breaks-port26", Warning,
				"Postfix 3.10.0 to 3.10.5 lowers the level to may for a message with TLS-Required: no, which breaks " +
					"implicit TLS: mail on port 26 waits."},
			{"tls-log-off", Note, "The log does not show which deliveries were verified."},
		}},
		{"TLS policies", []Code{
			{"tls-map-present", OK, "Postfix asks policyd for TLS policies."},
			{"tls-map-missing", Error, "Postfix does not ask policyd, so no promise is enforced."},
			{"tls-map-shadowed", Note,
				"The first table with an answer wins. That is right if the tables in front hold your exceptions."},
			{"tls-map-tlsrpt-too-early", Error,
				"Postfix before 3.10 does not know the attributes of this map and defers the mail."},
			{"tls-map-no-tlsrpt", Warning,
				"Postfix does not get the MTA-STS policy: TLSRPT reports lack it, and from 3.10.5 Postfix cannot " +
					"check the names of MX hosts against it."},
			{"map-unknown", Error,
				"policyd answers every request for an unknown map with an error, and the mail waits."},
			{"map-through-proxy", Warning,
				"proxymap(8) handles one request at a time: a slow answer delays all others, routes included."},
			{"service-without-policies", Warning,
				"Mail that this service delivers is not subject to the policies of policyd."},
		}},
		{"Route to implicit TLS", []Code{
			{"transport-map-present", OK, "Postfix asks policyd for routes."},
			{"transport-map-missing", Note,
				"No mail uses implicit TLS. All mail goes to port 25, where the TLS policies apply."},
			{"transport-map-unused", Warning, "Postfix asks for every address, and policyd never returns a route."},
			{"guard-present", OK, "Postfix does not ask policyd about the domains of this site."},
			{"guard-missing", Warning,
				"While policyd does not answer, mail for domains of this site waits too, and only the lists that " +
					"policyd reads prevent a mail loop."},
			{"guard-after", Error,
				"The first table with an answer wins, so a guard behind the socketmap has no effect."},
			{"relayhost-bypassed", Warning, "A route that policyd finds takes precedence over the relayhost."},
			{"service-present", OK, "The service uses implicit TLS and fails closed."},
			{"service-missing", Error, "Mail with a route to a service that does not exist is deferred."},
			{"service-no-wrappermode", Error,
				"The service would wait for a plaintext greeting that never comes, and the mail waits."},
			{"service-fails-open", Error, "Without a policy, the service would deliver without verifying the host."},
			{"service-fallback-relay", Warning,
				"The service would use implicit TLS to the fallback relay, on the port of that relay."},
			{"service-other-chroot", Note,
				"The service sees other files than smtp(8): resolv.conf, certificates, the socket."},
		}},
		{"Certificate authorities", []Code{
			{"roots-found", OK, "Certificates can be verified."},
			{"roots-missing", Error, "No certificate can be verified, and mail under a policy waits."},
			{"roots-unreadable", Error, "Postfix then cannot use TLS at all."},
			{"roots-not-in-chroot", Error,
				"Postfix reads smtp_tls_CApath inside the chroot, and without it mail under a policy waits."},
			{"roots-differ", Warning,
				"policyd probes with other root certificates than Postfix verifies with, so a route may lead to a " +
					"host where mail then waits."},
		}},
		{"From Postfix to policyd", []Code{
			{"socket-answers", OK, "policyd answers."},
			{"socket-silent", Error,
				"Postfix defers all mail whose policy or route it cannot look up, including local mail."},
			{"socket-not-policyd", Error, "Another program answers there."},
			{"socket-outside-chroot", Error, "A process in the chroot cannot see an absolute path."},
			{"socket-forbidden", Error, "The processes of Postfix may not connect, so they defer the mail."},
			{"postmap-answers", OK, "Postfix's own client gets an answer."},
			{"postmap-fails", Error, "Postfix's own client gets no answer, so its daemons do not get one either."},
		}},
		{"Domains of this site", []Code{
			{"own-domains-known", OK, "policyd returns no route for domains that this site receives."},
			{"own-domains-unknown", Warning,
				"While the domains that this site receives are unknown, no domain gets a route."},
			{"own-domain-unguarded", Warning,
				"The guard in transport_maps lacks the domain: its mail waits while policyd does not answer."},
			{"own-domain-routed", Error, "A route for a domain that is received here causes a mail loop."},
			{"own-domain-covered", OK, "The guard in transport_maps covers it."},
		}},
		{"Egress", []Code{
			{"egress-open", OK, "The port is reachable from here."},
			{"egress-filtered", Warning,
				"The port is probably blocked on this side, and all mail uses port 25."},
			{"mta-sts-fetched", OK, "MTA-STS policies can be fetched from here."},
			{"mta-sts-blocked", Warning,
				"Domains whose policy is not known yet are treated as if they had no MTA-STS."},
			{"egress-untested", Untested, "It is unknown whether the port is reachable from here."},
		}},
	}
}
