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
			{"not-root", Untested, "Other users may not have access to the tables, sockets and processes of Postfix."},
			{"daemon-running", OK, "The daemon answers at its admin socket."},
			{"daemon-warning", Warning, "The daemon reports this warning, see policyd status."},
			{"daemon-silent", Untested, "The daemon does not answer, so its listeners and probe results are unknown."},
			{"settings-invalid", Error,
				"policyd does not start with invalid settings; a running daemon keeps the previous ones."},
			{"settings-warning", Warning, "The setting is valid and may still be a mistake."},
		}},
		{"DNS", []Code{
			{"resolver-validating", OK, "Answers can be secure."},
			{"resolver-untrusted", Warning, "No answer is secure: no DANE, and forged MX answers hide promises."},
			{"resolver-not-validating", Warning, "No answer is secure: no DANE, and forged MX answers hide promises."},
			{"resolver-echoes-ad", Error, "It sets the AD bit without validating. Postfix does not detect that."},
			{"resolver-silent", Error, "Without a resolver every lookup fails, and mail waits."},
			{"resolver-untested", Untested, "The self-test fails; there may be no connection to the Internet."},
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
			{"postfix-not-running", Warning, "No mail is delivered, unless Postfix runs in another container."},
			{"postfix-not-reloaded", Warning, "The running Postfix still uses the earlier configuration."},
			{"postfix-state-unknown", Untested, "It is unknown whether Postfix is running."},
			{"postfix-version", OK, "Postfix understands all answers of policyd."},
			{"postfix-too-old", Error, "Postfix before 3.4 does not know servername= in policies, and defers mail."},
			{"postfix-no-host-list", Warning, "Postfix before 3.5 cannot use a route that is a list of hosts."},
			{"smtp-level", OK, "Other mail uses TLS where it is offered."},
			{"smtp-level-none", Warning, "Mail without a policy is sent in plaintext even where TLS is offered."},
			{"dnssec-lookups-off", Error, "Postfix then defers mail under dane-only, and treats dane as may."},
			{"dnssec-lookups", OK, "Postfix requests DNSSEC."},
			{"dane-insecure-mx", Warning, "TLSA records are not enforced where the MX RRset is unsigned."},
			{"global-wrappermode", Error, "Postfix then uses implicit TLS on port 25 too, which no server expects."},
			{"mx-address-limit", Warning,
				"Hosts without a promise count towards it. If too many come first, mail waits until it bounces."},
			{"tls-required-header", Note,
				"A message with TLS-Required: no (RFC 8689) skips the policy, so it can leave in plaintext."},
			{"tls-required-breaks-port26", Warning,
				"Postfix 3.10.0 to 3.10.5 then lowers the level to may, which breaks implicit TLS: the mail waits."},
			{"tls-log-off", Note, "The log does not show which deliveries were verified."},
		}},
		{"TLS policies", []Code{
			{"tls-map-present", OK, "Postfix asks policyd for TLS policies."},
			{"tls-map-missing", Error, "Postfix does not ask policyd, so no promise is enforced."},
			{"tls-map-shadowed", Note, "The tables in front win, which is right if they hold your exceptions."},
			{"tls-map-tlsrpt-too-early", Error, "Postfix before 3.10 does not know its attributes and defers mail."},
			{"tls-map-no-tlsrpt", Warning,
				"TLSRPT reports lack the MTA-STS policy, and Postfix >= 3.10.5 cannot check MX names against it."},
			{"map-unknown", Error, "policyd answers every request for it with an error, and the mail waits."},
			{"map-through-proxy", Warning, "proxymap(8) handles one request at a time: a slow answer delays all."},
			{"service-without-policies", Warning, "The policies of policyd do not apply to mail of this service."},
		}},
		{"Route to implicit TLS", []Code{
			{"transport-map-present", OK, "Postfix asks policyd for routes."},
			{"transport-map-missing", Note, "No mail uses implicit TLS: all of it goes to port 25."},
			{"guard-present", OK, "Postfix does not ask policyd about the domains of this site."},
			{"guard-missing", Warning, "While policyd does not answer, mail for domains of this site waits too."},
			{"guard-after", Error, "The first table with an answer wins, so this guard has no effect."},
			{"relayhost-bypassed", Warning, "A route that policyd finds takes precedence over the relayhost."},
			{"service-present", OK, "The service uses implicit TLS and fails closed."},
			{"service-missing", Error, "Mail with a route to a service that does not exist is deferred."},
			{"service-no-wrappermode", Error, "It would wait for a plaintext greeting that never comes: mail waits."},
			{"service-fails-open", Error, "Without a policy, the service would deliver without verifying the host."},
			{"service-fallback-relay", Warning, "It would use implicit TLS to the port of the fallback relay."},
		}},
		{"Certificate authorities", []Code{
			{"roots-found", OK, "Certificates can be verified."},
			{"roots-missing", Error, "No certificate can be verified, and mail under a policy waits."},
			{"roots-unreadable", Error, "Postfix then cannot use TLS at all."},
			{"roots-not-in-chroot", Error, "Nothing can be verified in the chroot, and mail under a policy waits."},
			{"roots-differ", Warning, "policyd and Postfix verify with different roots; mail with a route may wait."},
		}},
		{"From Postfix to policyd", []Code{
			{"socket-answers", OK, "policyd answers."},
			{"socket-silent", Error, "Postfix defers mail whose policy or route is unknown, including local mail."},
			{"socket-not-policyd", Error, "Another program answers there."},
			{"socket-outside-chroot", Error, "A process in the chroot cannot see an absolute path."},
			{"socket-forbidden", Error, "The processes of Postfix may not connect, so they defer the mail."},
			{"postmap-answers", OK, "Postfix's own client gets an answer."},
			{"postmap-fails", Error, "Postfix's own client gets no answer, so its daemons do not get one either."},
		}},
		{"Domains of this site", []Code{
			{"own-domains-known", OK, "policyd returns no route for domains that this site receives."},
			{"own-domains-unknown", Warning, "Until the domains of this site are known, no domain gets a route."},
			{"own-domain-unguarded", Warning, "Mail for the domain waits while policyd does not answer."},
			{"own-domain-routed", Error, "A route for a domain that is received here causes a mail loop."},
			{"own-domain-covered", OK, "The guard in transport_maps covers it."},
		}},
		{"Egress", []Code{
			{"egress-open", OK, "The port is reachable from here."},
			{"egress-filtered", Warning, "The port is probably blocked on this side, and all mail uses port 25."},
			{"mta-sts-fetched", OK, "MTA-STS policies can be fetched from here."},
			{"mta-sts-blocked", Warning, "New domains are treated as if they had no MTA-STS."},
			{"egress-untested", Untested, "It is unknown whether the port is reachable from here."},
		}},
	}
}
