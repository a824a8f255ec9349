package settings

import (
	"reflect"
	"strings"
	"time"
)

// Row is one setting: its documentation and its check.
type Row struct {
	// Key is the name within the table, and Type a human-readable description of the values.
	Key, Type string
	// Doc is one paragraph.
	Doc   string
	check func(*Settings) error // nil: every value of the type is good
}

// Table is a table of the file.
type Table struct {
	// Name is "" for the top of the file.
	Name, Doc string
	Rows      []Row
}

// Tables returns all settings, in the order of the annotated file.
func Tables() []Table {
	return []Table{
		{"", "", []Row{
			{
				"mode", `"enforce", "report" or "off"`,
				"enforce answers every lookup with the decision. report makes the same decisions, logs and counts them, and answers NOTFOUND, so that Postfix behaves as it would without policyd. off looks nothing up and answers NOTFOUND.",
				func(s *Settings) error { return oneOf(s.Mode, "enforce", "report", "off") },
			},
			{
				"overrides", "path",
				"Your own rules, one per line: a domain (example.com, or .example.com for all its subdomains) and ignore, no-port26 or a Postfix TLS policy. The default file need not exist; any other file must.",
				func(s *Settings) error { return absolutePath(s.Overrides) },
			},
		}},
		{"server", "The socketmap server that Postfix connects to.", []Row{
			{
				"listen", "list of host:port and unix:/path",
				"Addresses of the server. Listeners passed by systemd (policyd.socket) replace them. A change needs a restart.",
				func(s *Settings) error { return distinct(s.Server.Listen, listenAddress) },
			},
			{
				"socket_mode", "octal permissions in quotes",
				"Permissions of the unix sockets in listen. A change needs a restart.",
				func(s *Settings) error { return socketMode(s.Server.SocketMode) },
			},
			{
				"socket_group", "name or number of a group",
				"Group of the unix sockets in listen; empty means the group of the process. Postfix must be a member, so this is often postfix. A change needs a restart.",
				func(s *Settings) error { return group(s.Server.SocketGroup) },
			},
			{
				"max_connections", "1 to 1000000",
				"Connection limit. When it is reached, the connection that has been idle longest is closed for each new one.",
				func(s *Settings) error { return between(s.Server.MaxConnections, 1, 1_000_000) },
			},
			{
				"idle_timeout", "duration, 1s to 24h",
				"Time after which a connection without a request is closed.",
				func(s *Settings) error { return duration(s.Server.IdleTimeout, 10*time.Millisecond, 24*time.Hour) },
			},
			{
				"drain_timeout", "duration, 0s to 10m",
				"Time that unfinished requests get to complete when the service stops.",
				func(s *Settings) error { return duration(s.Server.DrainTimeout, 0, 10*time.Minute) },
			},
		}},
		{"dns", "The resolvers for MX, TLSA and other records. Use a validating resolver on this host, and the same one as Postfix.", []Row{
			{
				"servers", "list of at most 3 DNS servers",
				`Recursive resolvers, such as "127.0.0.1", "127.0.0.1:5300", "[::1]:53" or, for DNS over TLS, "tls://name@192.0.2.1:853". Empty means those of /etc/resolv.conf, which is read again when it changes.`,
				func(s *Settings) error { return dnsServers(s.DNS.Servers) },
			},
			{
				"trust_ad", `"auto", "always" or "never"`,
				"Whether to trust the AD bit. auto trusts 127.0.0.1 and ::1, and another loopback address if it is written in servers; it never trusts 127.0.0.11, 127.0.0.53 and 127.0.0.54, which forward to resolvers elsewhere. Whatever the setting, a resolver that fails its self-test is not trusted.",
				func(s *Settings) error { return oneOf(s.DNS.TrustAD, "auto", "always", "never") },
			},
			{
				"timeout", "duration, 10ms to 30s",
				"Timeout of the first query to a server. The second query waits 5/3 of it, and a whole lookup takes at most four times as long.",
				func(s *Settings) error { return duration(s.DNS.Timeout, 10*time.Millisecond, 30*time.Second) },
			},
			{
				"self_test", "list of domain names",
				"Names with a signed NS RRset, for which a validating resolver must set the AD bit. Change them only if the root zone is a private one.",
				func(s *Settings) error { return selfTest(s.DNS.SelfTest) },
			},
			{
				"second_opinion", "DNS server with TLS",
				`A resolver elsewhere, such as "tls://name@192.0.2.1:853". It is asked only about a promise that vanished, and only with promises.vanished = "hold": when it gives the same answer twice, 30 minutes apart, the hold ends early. Empty means that no resolver is asked. A change needs a restart.`,
				func(s *Settings) error { return optional(s.DNS.SecondOpinion, secondOpinion) },
			},
		}},
		{"cache", "Answers in memory, and the state directory.", []Row{
			{
				"max_entries", "1 to 100000000",
				"Maximum number of RRsets in the DNS cache. A domain with DANE needs about 8. A memory limit of the process can make the cache smaller.",
				func(s *Settings) error { return between(s.Cache.MaxEntries, 1, 100_000_000) },
			},
			{
				"state_dir", "path",
				"Directory for the data that must survive a restart: MTA-STS policies and probe results. Empty means that nothing is kept. A change needs a restart.",
				func(s *Settings) error { return optional(s.Cache.StateDir, absolutePath) },
			},
		}},
		{"policy", "Which promises are honoured.", []Row{
			{
				"unsigned_mx", `"secure" or "ignore"`,
				"What to do about a promise in an MX RRset that DNSSEC does not protect: honour it (secure) or ignore it (ignore).",
				func(s *Settings) error { return oneOf(s.Policy.UnsignedMX, "secure", "ignore") },
			},
			{
				"mixed_mx", `"secure" or "ignore"`,
				"What to do if only some MX hosts of a domain have a prefix: deliver through those hosts only (secure), or treat the domain as one without a promise (ignore).",
				func(s *Settings) error { return oneOf(s.Policy.MixedMX, "secure", "ignore") },
			},
			{"dane", "true or false", "Whether DANE (RFC 7672) is applied. A Postfix TLS policy table overrides Postfix's own DANE, so this should stay true.", nil},
			{"mta_sts", "true or false", "Whether MTA-STS (RFC 8461) is applied.", nil},
		}},
		{"mta_sts", "How MTA-STS policies are fetched.", []Row{
			{"proxy_from_environment", "true or false", "Whether to use the proxy that the environment variables HTTPS_PROXY and NO_PROXY of the process name.", nil},
		}},
		{"promises", "The memory of promises: which next hops promised authenticated TLS, kept in cache.state_dir.", []Row{
			{
				"vanished", `"off", "alert" or "hold"`,
				"What happens when a promise that was seen on at least 3 of the last 30 days is missing from an unsigned answer, which an attacker can forge: a warning in the log, in status, in report and in the metrics (alert); in addition the mail waits for at most 6 hours, once per domain in 30 days (hold); or nothing, and nothing is remembered (off).",
				func(s *Settings) error { return oneOf(s.Promises.Vanished, "off", "alert", "hold") },
			},
		}},
		{"fleet", "Sharing MTA-STS policies and promises with the other nodes of this site through Redis or Valkey. The server is not trusted and never delays a lookup. A change needs a restart.", []Row{
			{
				"url", "redis://, rediss:// or unix:// URL",
				`The server, such as "rediss://user:password@redis.example.com:6380/0" or "unix:///run/redis/redis.sock". A Sentinel has the parameter master_name: "redis://sentinel:26379?master_name=policyd". Empty means that nothing is shared.`,
				func(s *Settings) error { return optional(s.Fleet.URL, fleetURL) },
			},
			{
				"key_file", "path",
				"File with the site key, which policyd fleet key prints. All nodes have the same key. Required with url.",
				func(s *Settings) error { return optional(s.Fleet.KeyFile, absolutePath) },
			},
			{
				"previous_key_file", "path",
				"File with the previous site key, so that records made with it stay valid while the key is changed.",
				func(s *Settings) error { return optional(s.Fleet.PreviousKeyFile, absolutePath) },
			},
			{
				"prefix", "text",
				"Prefix of all keys in the server.",
				func(s *Settings) error { return fleetPrefix(s.Fleet.Prefix) },
			},
			{
				"pull", "duration, 1s to 1h",
				"How often the records of the other nodes are read.",
				func(s *Settings) error { return duration(s.Fleet.Pull, time.Second, time.Hour) },
			},
		}},
		{"port26", "Implicit TLS on port 26, for hosts with the prefix smtps-.", []Row{
			{
				"mode", `"probe", "always" or "off"`,
				"When a transport lookup returns a route to port 26: for smtps- hosts that a probe has found to keep their promise (probe), for every smtps- host (always), or never (off).",
				func(s *Settings) error { return oneOf(s.Port26.Mode, "probe", "always", "off") },
			},
			{
				"port", "1 to 65535, not 25",
				"The port of implicit TLS.",
				func(s *Settings) error { return port26(s.Port26.Port) },
			},
			{
				"transport", "name of letters, digits, _ and -",
				"The service in master.cf that speaks implicit TLS.",
				func(s *Settings) error { return transport(s.Port26.Transport) },
			},
			{
				"wait", "duration, 1ms to 10s",
				"Longest time that a transport lookup may take. After that the answer is NOTFOUND, and the mail goes to port 25 under the TLS policy.",
				func(s *Settings) error { return duration(s.Port26.Wait, time.Millisecond, 10*time.Second) },
			},
			{
				"exclude_domains", "list of domains",
				"Domains that never get a route: example.com, or .example.com for all its subdomains. The domains that Postfix on this machine receives are excluded anyway.",
				func(s *Settings) error { return distinct(s.Port26.ExcludeDomains, excludeDomain) },
			},
			{
				"own_hosts", "list of host names",
				"Additional names of this host. A domain with one of them among its MX hosts never gets a route, because that would cause a mail loop.",
				func(s *Settings) error { return distinct(s.Port26.OwnHosts, ownHost) },
			},
			{
				"helo_name", "host name",
				"The name in EHLO for probes and policyd check on a machine without Postfix. Where Postfix is installed they use its smtp_helo_name. Empty without Postfix means the address of this machine in brackets, which many receivers refuse behind NAT and from containers.",
				func(s *Settings) error { return optional(s.Port26.HeloName, ownHost) },
			},
			{"probe_special_addresses", "true or false", "Whether private, loopback and other special addresses are probed, and MTA-STS policies fetched from them. Use true only for tests and private networks, because remote senders choose the addresses. With mode = \"probe\" the address ::1 then does not count as this host; 127.0.0.1 always does.", nil},
		}},
		{"tls", "", []Row{
			{
				"ca_file", "path",
				"Root certificates in PEM for probes, MTA-STS and DNS over TLS. Empty means the root certificates of the system.",
				func(s *Settings) error { return optional(s.TLS.CAFile, absolutePath) },
			},
		}},
		{"admin", "The socket that policyd status, cache, report, reload and log-level use.", []Row{
			{
				"socket", "path",
				"Path of the socket. Empty means no socket. A change needs a restart.",
				func(s *Settings) error { return optional(s.Admin.Socket, socketPath) },
			},
		}},
		{"http", "Answers in JSON over HTTP for mail servers other than Postfix. The admin socket gives the same answers.", []Row{
			{
				"listen", "host:port",
				"Address for these mail servers, such as 127.0.0.1:2527, with /v1/policy and /v1/route only. HTTP does not protect the answers, so use a loopback address. Empty means no listener. A change needs a restart.",
				func(s *Settings) error { return optional(s.HTTP.Listen, hostPort) },
			},
		}},
		{"metrics", "", []Row{
			{
				"listen", "host:port",
				"Address for Prometheus, such as 127.0.0.1:9526, with /metrics, /-/healthy and /-/ready. Empty means no listener. A change needs a restart.",
				func(s *Settings) error { return optional(s.Metrics.Listen, hostPort) },
			},
		}},
		{"log", "The log goes to standard error.", []Row{
			{
				"level", `"debug", "info", "warn" or "error"`,
				"Least severe level that is logged.",
				func(s *Settings) error { return oneOf(s.Log.Level, "debug", "info", "warn", "error") },
			},
			{
				"format", `"auto", "text" or "json"`,
				"text has a time in each line, json one object per line. auto is text, and under systemd text with the priorities of the journal and without a time.",
				func(s *Settings) error { return oneOf(s.Log.Format, "auto", "text", "json") },
			},
			{
				"lookups", `"all", "changes" or "none"`,
				"Which decisions are logged: all of them, only those that differ from the previous one for the same next hop (changes), or none.",
				func(s *Settings) error { return oneOf(s.Log.Lookups, "all", "changes", "none") },
			},
		}},
	}
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
