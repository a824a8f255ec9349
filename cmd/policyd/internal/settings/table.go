package settings

import (
	"reflect"
	"strings"
	"time"
)

// Row is one setting: its name within the table, what it takes, and its documentation in one paragraph.
type Row struct {
	Key string
	kind
	Doc string
}

// Table is a table of the file.
type Table struct {
	// Name is "" for the top of the file.
	Name, Doc string
	Rows      []Row
}

// Tables returns all settings, in the order of the annotated file.
func Tables() []Table {
	all := []Table{
		{"", "", []Row{
			{"mode", oneOf("enforce", "report", "off"),
				"enforce answers every lookup with the decision. report makes the same decisions, logs and counts " +
					"them, and answers NOTFOUND, so that Postfix behaves as it would without policyd. off looks " +
					"nothing up and answers NOTFOUND."},
			{"overrides", of("a path", absolutePath),
				"Your own rules, one per line: a domain (example.com, or .example.com for all its subdomains) and " +
					"ignore, no-port26 or a Postfix TLS policy. The default file need not exist; any other file must."},
		}},
		{"server", "The socketmap server that Postfix connects to.", []Row{
			{"listen", restart(list("a list of host:port and unix:/path", listenAddress)),
				"Addresses of the server. Listeners passed by systemd (policyd.socket) replace them."},
			{"socket_mode", restart(of("octal permissions in quotes", socketMode)),
				"Permissions of the unix sockets in listen."},
			{"socket_group", restart(optional("the name or number of a group", group)),
				"Group of the unix sockets in listen; empty means the group of the process. Postfix must be a " +
					"member, so this is often postfix."},
			{"max_connections", number(1, 1_000_000),
				"Connection limit. When it is reached, the connection that has been idle longest is closed for each " +
					"new one."},
			{"idle_timeout", duration(10*time.Millisecond, 24*time.Hour),
				"Time after which a connection without a request is closed."},
			{"drain_timeout", duration(0, 10*time.Minute),
				"Time that unfinished requests get to complete when the service stops."},
		}},
		{"dns", "The resolvers for MX, TLSA and other records. Use a validating resolver on this host, and the same " +
			"one as Postfix.", []Row{
			{"servers", of("a list of at most 3 DNS servers", dnsServers),
				`Recursive resolvers, such as "127.0.0.1", "127.0.0.1:5300", "[::1]:53" or, for DNS over TLS, ` +
					`"tls://name@192.0.2.1:853". Empty means those of /etc/resolv.conf, which is read again when it ` +
					`changes.`},
			{"trust_ad", oneOf("auto", "always", "never"),
				"Whether to trust the AD bit. auto trusts 127.0.0.1 and ::1, and another loopback address if it is " +
					"written in servers; it never trusts 127.0.0.11, 127.0.0.53 and 127.0.0.54, which forward to " +
					"resolvers elsewhere. Whatever the setting, a resolver that fails its self-test is not " +
					"trusted."},
			{"timeout", duration(10*time.Millisecond, 30*time.Second),
				"Timeout of the first query to a server. The second query waits 5/3 of it, and a whole lookup takes " +
					"at most four times as long."},
			{"self_test", of("a list of domain names", selfTest),
				"Names with a signed NS RRset, for which a validating resolver must set the AD bit. Change them " +
					"only if the root zone is a private one."},
			{"second_opinion", restart(optional("a DNS server with TLS", secondOpinion)),
				`A resolver elsewhere, such as "tls://name@192.0.2.1:853". It is asked only about a promise that ` +
					`vanished, and only with promises.vanished = "hold": when it gives the same answer twice, 30 ` +
					`minutes apart, the hold ends early. Empty means that no resolver is asked.`},
		}},
		{"cache", "Answers in memory, and the state directory.", []Row{
			{"max_entries", number(1, 100_000_000),
				"Maximum number of RRsets in the DNS cache. A domain with DANE needs about 8. A memory limit of the " +
					"process can make the cache smaller."},
			{"state_dir", restart(optional("a path", absolutePath)),
				"Directory for the data that must survive a restart: MTA-STS policies and probe results. Empty " +
					"means that nothing is kept."},
		}},
		{"policy", "Which promises are honoured.", []Row{
			{"unsigned_mx", oneOf("secure", "ignore"),
				"What to do about a promise in an MX RRset that DNSSEC does not protect: honour it (secure) or " +
					"ignore it (ignore)."},
			{"mixed_mx", oneOf("secure", "ignore"),
				"What to do if only some MX hosts of a domain have a prefix: deliver through those hosts only " +
					"(secure), or treat the domain as one without a promise (ignore)."},
			{"dane", boolean(),
				"Whether DANE (RFC 7672) is applied. A Postfix TLS policy table overrides Postfix's own DANE, so " +
					"this should stay true."},
			{"mta_sts", boolean(),
				"Whether MTA-STS (RFC 8461) is applied."},
		}},
		{"mta_sts", "How MTA-STS policies are fetched.", []Row{
			{"proxy_from_environment", boolean(),
				"Whether to use the proxy that the environment variables HTTPS_PROXY and NO_PROXY of the process " +
					"name."},
		}},
		{"promises", "The memory of promises: which next hops promised authenticated TLS, kept in cache.state_dir.",
			[]Row{
				{"vanished", oneOf("off", "alert", "hold"),
					"What happens when a promise that was seen on at least 3 of the last 30 days is missing from an " +
						"unsigned answer, which an attacker can forge: a warning in the log, in status, in report " +
						"and in the metrics (alert); in addition the mail waits for at most 6 hours, once per domain " +
						"in 30 days (hold); or nothing, and nothing is remembered (off)."},
			}},
		{"fleet", "Sharing MTA-STS policies and promises with the other nodes of this site through Redis or Valkey. " +
			"The server is not trusted and never delays a lookup.", []Row{
			{"url", restart(optional("a redis://, rediss:// or unix:// URL", fleetURL)),
				`The server, such as "rediss://user:password@redis.example.com:6380/0" or ` +
					`"unix:///run/redis/redis.sock". A Sentinel has the parameter master_name: ` +
					`"redis://sentinel:26379?master_name=policyd". Empty means that nothing is shared.`},
			{"key_file", restart(optional("a path", absolutePath)),
				"File with the site key, which policyd fleet key prints. All nodes have the same key. Required with " +
					"url."},
			{"previous_key_file", restart(optional("a path", absolutePath)),
				"File with the previous site key, so that records made with it stay valid while the key is changed."},
			{"prefix", restart(of("text", fleetPrefix)),
				"Prefix of all keys in the server."},
			{"pull", restart(duration(time.Second, time.Hour)),
				"How often the records of the other nodes are read."},
		}},
		{"port26", "Implicit TLS on port 26, for hosts with the prefix smtps-.", []Row{
			{"mode", oneOf("probe", "always", "off"),
				"When a transport lookup returns a route to port 26: for smtps- hosts that a probe has found to " +
					"keep their promise (probe), for every smtps- host (always), or never (off)."},
			{"port", of("a number from 1 to 65535, but not 25", port26),
				"The port of implicit TLS."},
			{"transport", of("a name of letters, digits, _ and -", transport),
				"The service in master.cf that speaks implicit TLS."},
			{"wait", duration(time.Millisecond, 10*time.Second),
				"Longest time that a transport lookup may take. After that the answer is NOTFOUND, and the mail " +
					"goes to port 25 under the TLS policy."},
			{"exclude_domains", list("a list of domains", excludeDomain),
				"Domains that never get a route: example.com, or .example.com for all its subdomains. The domains " +
					"that Postfix on this machine receives are excluded anyway."},
			{"own_hosts", list("a list of host names", ownHost),
				"Additional names of this host. A domain with one of them among its MX hosts never gets a route, " +
					"because that would cause a mail loop."},
			{"helo_name", optional("a host name", ownHost),
				"The name in EHLO for probes and policyd check on a machine without Postfix. Where Postfix is " +
					"installed they use its smtp_helo_name. Empty without Postfix means the address of this machine " +
					"in brackets, which many receivers refuse behind NAT and from containers."},
			{"probe_special_addresses", boolean(),
				"Whether private, loopback and other special addresses are probed, and MTA-STS policies fetched " +
					"from them. Use true only for tests and private networks, because remote senders choose the " +
					"addresses. With mode = \"probe\" the address ::1 then does not count as this host; " +
					"127.0.0.1 always does."},
		}},
		{"tls", "", []Row{
			{"ca_file", optional("a path", absolutePath),
				"Root certificates in PEM for probes, MTA-STS and DNS over TLS. Empty means the root certificates " +
					"of the system."},
		}},
		{"admin", "The socket that policyd status, cache, report, reload and log-level use.", []Row{
			{"socket", restart(optional("a path", socketPath)),
				"Path of the socket. Empty means no socket."},
		}},
		{"http", "Answers in JSON over HTTP for mail servers other than Postfix. The admin socket gives the same " +
			"answers.", []Row{
			{"listen", restart(optional("host:port", hostPort)),
				"Address for these mail servers, such as 127.0.0.1:2527, with /v1/policy and /v1/route only. HTTP " +
					"does not protect the answers, so use a loopback address. Empty means no listener."},
		}},
		{"metrics", "", []Row{
			{"listen", restart(optional("host:port", hostPort)),
				"Address for Prometheus, such as 127.0.0.1:9526, with /metrics, /-/healthy and /-/ready. Empty " +
					"means no listener."},
		}},
		{"log", "The log goes to standard error.", []Row{
			{"level", oneOf("debug", "info", "warn", "error"),
				"Least severe level that is logged."},
			{"format", oneOf("auto", "text", "json"),
				"text has a time in each line, json one object per line. auto is text, and under systemd text with " +
					"the priorities of the journal and without a time."},
			{"lookups", oneOf("all", "changes", "none"),
				"Which decisions are logged: all of them, only those that differ from the previous one for the same " +
					"next hop (changes), or none."},
		}},
	}
	for _, t := range all {
		for i := range t.Rows {
			if t.Rows[i].restart {
				t.Rows[i].Doc += " A change needs a restart."
			}
		}
	}
	return all
}

// path returns the full key of a row.
func (t Table) path(r Row) string { return join(t.Name, r.Key) }

// Default returns the default of a row as TOML.
func (t Table) Default(r Row) string {
	defaults := Default()
	return valueTOML(defaults.field(t.path(r)))
}

// field returns the value of a setting by its full key, or the zero Value for an unknown key.
func (s *Settings) field(key string) reflect.Value {
	v := reflect.ValueOf(s).Elem()
	for part := range strings.SplitSeq(key, ".") {
		if v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		v = byTag(v, part)
		if !v.IsValid() {
			return v
		}
	}
	return v
}

func byTag(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("toml") == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}
