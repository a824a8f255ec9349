package settings

import (
	"math"
	"path/filepath"
	"reflect"
	"time"

	"github.com/policyd/policyd/prefix"
)

// Row is one setting: its name within the table, what it takes, and its documentation in one paragraph.
type Row struct {
	Key, Doc string
	kind
	// value is the field in Settings, and path the full key, such as "server.listen".
	value, byDefault reflect.Value
	path             string
}

// Default returns the default as TOML.
func (r Row) Default() string { return valueTOML(r.byDefault.Interface()) }

// Table is a table of the file.
type Table struct {
	// Name is "" for the top of the file.
	Name, Doc string
	Rows      []Row
}

// Tables returns all settings with their values, in the order of the annotated file.
func (s *Settings) Tables() (all []Table) {
	table := func(name, doc string) { all = append(all, Table{Name: name, Doc: doc}) }
	add := func(key string, field, byDefault any, k kind, doc string) {
		t := &all[len(all)-1]
		if k.restart {
			doc += " A change needs a restart."
		}
		t.Rows = append(t.Rows,
			Row{key, doc, k, reflect.ValueOf(field).Elem(), reflect.ValueOf(byDefault), join(t.Name, key)})
	}
	const most = math.MaxInt
	path := of("a path that begins with /", optional(filepath.IsAbs))
	table("",
		"Every setting of policyd with its explanation and its default. In the settings file, write only what "+
			`differs. Check a change with "policyd config check" and apply it with "policyd reload".`)
	add("mode", &s.Mode, "enforce", oneOf("enforce", "report", "off"),
		"enforce answers every lookup with the decision. report makes the same decisions, logs and counts them, and "+
			"answers NOTFOUND, so that Postfix behaves as it would without policyd. off looks nothing up and answers "+
			"NOTFOUND.")
	add("overrides", &s.Overrides, defaultOverrides, of("a path that begins with /", filepath.IsAbs),
		"Your own rules, one per line: a domain (example.com, or .example.com for all its subdomains) and ignore, "+
			"no-port26 or a Postfix TLS policy. The default file need not exist; any other file must.")
	table("server", "The socketmap server that Postfix connects to.")
	add("listen", &s.Server.Listen, []string{"127.0.0.1:2526"},
		restart(list("a list of host:port and unix:/path (at most 107 bytes)", 0, most, listenAddress)),
		"Addresses of the server. Listeners passed by systemd (policyd.socket) replace them.")
	add("socket_mode", &s.Server.SocketMode, "0660",
		restart(of("octal permissions in quotes", matching("0*[1-7][0-7]{0,2}"))),
		"Permissions of the unix sockets in listen.")
	add("socket_group", &s.Server.SocketGroup, "", restart(of("the name or number of a group", group)),
		"Group of the unix sockets in listen; empty means the group of the process. Postfix must be a member, so "+
			"this is often postfix.")
	add("max_connections", &s.Server.MaxConnections, 4096, number(1, 1_000_000),
		"Connection limit. When it is reached, the connection that has been idle longest is closed for each new one.")
	add("idle_timeout", &s.Server.IdleTimeout, "2m", duration(10*time.Millisecond, 24*time.Hour),
		"Time after which a connection without a request is closed.")
	add("drain_timeout", &s.Server.DrainTimeout, "5s", duration(0, 10*time.Minute),
		"Time that unfinished requests get to complete when the service stops.")
	table("dns",
		"The resolvers for MX, TLSA and other records. Use a validating resolver on this host, and the same one as "+
			"Postfix.")
	add("servers", &s.DNS.Servers, []string{}, list(`a list of at most 3 DNS servers, such as "127.0.0.1", `+
		`"127.0.0.1:5300", "[::1]:53" or "tls://name@192.0.2.1:853"`, 0, 3, dnsServer),
		"Recursive resolvers; tls:// means DNS over TLS. Empty means those of /etc/resolv.conf, which is read again "+
			"when it changes.")
	add("trust_ad", &s.DNS.TrustAD, "auto", oneOf("auto", "always", "never"),
		"Whether to trust the AD bit. auto trusts 127.0.0.1 and ::1, and another loopback address if it is written "+
			"in servers; it never trusts 127.0.0.11, 127.0.0.53 and 127.0.0.54, which forward to resolvers "+
			"elsewhere. Whatever the setting, a resolver that fails its self-test is not trusted.")
	add("timeout", &s.DNS.Timeout, "3s", duration(10*time.Millisecond, 30*time.Second),
		"Timeout of the first query to a server. The second query waits 5/3 as long, and a whole lookup takes at "+
			"most four times as long.")
	add("self_test", &s.DNS.SelfTest, []string{".", "com."},
		list("a list of at least one domain name", 1, most, func(s string) bool { return s == "." || hostName(s) }),
		"Names with a signed NS RRset, for which a validating resolver must set the AD bit. Change them only if "+
			"you use a private root zone.")
	add("second_opinion", &s.DNS.SecondOpinion, "",
		restart(of(`a DNS server with TLS, such as "tls://name@192.0.2.1:853"`, optional(secondOpinion))),
		"A resolver elsewhere. It is asked only about a promise that vanished, and only with promises.vanished = "+
			`"hold": when it gives the same answer twice, 30 minutes apart, the hold ends early. Empty means that no `+
			"resolver is asked.")
	table("cache", "Answers in memory, and the state directory.")
	add("max_entries", &s.Cache.MaxEntries, 400_000, number(1, 100_000_000),
		"Maximum number of RRsets in the DNS cache. A domain with DANE needs about 8. A memory limit of the process "+
			"can make the cache smaller.")
	add("state_dir", &s.Cache.StateDir, "/var/lib/policyd", restart(path),
		"Directory for what must survive a restart: MTA-STS policies, probe results, promises and the data of "+
			"policyd report. Empty means that nothing is kept.")
	table("policy", "Which promises are honoured.")
	add("unsigned_mx", &s.Policy.UnsignedMX, "secure", oneOf("secure", "ignore"),
		"What to do about a promise in an MX RRset that DNSSEC does not protect: honour it (secure) or ignore it "+
			"(ignore).")
	add("mixed_mx", &s.Policy.MixedMX, "secure", oneOf("secure", "ignore"),
		"What to do if only some MX hosts of a domain have a prefix: deliver through those hosts only (secure), or "+
			"treat the domain as one without a promise (ignore).")
	add("dane", &s.Policy.DANE, true, boolean(),
		"Whether DANE (RFC 7672) is applied. A Postfix TLS policy table overrides Postfix's own DANE, so this should "+
			"stay true.")
	add("mta_sts", &s.Policy.MTASTS, true, boolean(), "Whether MTA-STS (RFC 8461) is applied.")
	table("mta_sts", "How MTA-STS policies are fetched.")
	add("proxy_from_environment", &s.MTASTS.ProxyFromEnvironment, false, boolean(),
		"Whether to use the proxy that the process has in its environment variables HTTPS_PROXY and NO_PROXY.")
	table("promises", "The memory of promises: which next hops promised authenticated TLS, kept in cache.state_dir.")
	add("vanished", &s.Promises.Vanished, "alert", oneOf("off", "alert", "hold"),
		"What happens when a promise that was seen on at least 3 of the last 30 days is missing from an unsigned "+
			"answer, which an attacker can forge: a warning in the log, in status, in report and in the metrics "+
			"(alert); in addition the mail waits for at most 6 hours, once per domain in 30 days (hold); or nothing, "+
			"and nothing is remembered (off).")
	table("fleet",
		"Sharing MTA-STS policies and promises with the other nodes of this site through Redis or Valkey. The server "+
			"is not trusted and never delays a lookup.")
	add("url", &s.Fleet.URL, "", restart(of("a redis://, rediss:// or unix:// URL", optional(fleetURL))),
		`The server, such as "rediss://user:password@redis.example.com:6380/0" or "unix:///run/redis/redis.sock". `+
			`For a Sentinel, add the parameter master_name: "redis://sentinel:26379?master_name=policyd". Empty means `+
			"that nothing is shared.")
	add("key_file", &s.Fleet.KeyFile, "", restart(path),
		"File with the site key, which policyd fleet key prints. All nodes have the same key. Required with url.")
	add("previous_key_file", &s.Fleet.PreviousKeyFile, "", restart(path),
		"File with the previous site key, so that records made with it stay valid while the key is changed.")
	add("prefix", &s.Fleet.Prefix, "policyd:",
		restart(of("at most 64 printable ASCII characters without spaces", matching("[!-~]{0,64}"))),
		"Prefix of all keys in the server.")
	add("pull", &s.Fleet.Pull, "10s", restart(duration(time.Second, time.Hour)),
		"How often the records of the other nodes are read.")
	table("port26", "Implicit TLS on port 26, for hosts with the prefix smtps-.")
	add("mode", &s.Port26.Mode, "probe", oneOf("probe", "always", "off"),
		"When a transport lookup returns a route to port 26: for smtps- hosts that a probe has found to keep their "+
			"promise (probe), for every smtps- host (always), or never (off).")
	add("port", &s.Port26.Port, 26, of("a number from 1 to 65535, but not 25",
		func(n int64) bool { return 1 <= n && n <= math.MaxUint16 && n != prefix.SMTPPort }),
		"The port of implicit TLS.")
	add("transport", &s.Port26.Transport, "smtps26",
		of("a name of at most 64 letters, digits, _ and -", matching("[A-Za-z0-9_-]{1,64}")),
		"The service in master.cf that speaks implicit TLS.")
	add("wait", &s.Port26.Wait, "200ms", duration(time.Millisecond, 10*time.Second),
		"Longest time that a transport lookup may take. After that the answer is NOTFOUND, and the mail goes to port "+
			"25 under the TLS policy.")
	add("exclude_domains", &s.Port26.ExcludeDomains, []string{},
		list("a list of domains: example.com, or .example.com for all its subdomains", 0, most, excludeDomain),
		"Domains that never get a route. The domains that Postfix on this machine receives are excluded anyway.")
	add("own_hosts", &s.Port26.OwnHosts, []string{}, list("a list of host names", 0, most, hostName),
		"Additional names of this host. A domain with one of them among its MX hosts never gets a route, because "+
			"that would cause a mail loop.")
	add("helo_name", &s.Port26.HeloName, "", of("a host name", optional(hostName)),
		"The name in EHLO for probes and policyd check on a machine without Postfix. Where Postfix is installed, they "+
			"use its smtp_helo_name. If there is no name, they use the address of this machine in brackets, which "+
			"many receivers refuse behind NAT and from containers.")
	add("probe_special_addresses", &s.Port26.ProbeSpecialAddresses, false, boolean(),
		"Whether private, loopback and other special addresses are probed, and MTA-STS policies fetched from them. "+
			"Use true only for tests and private networks, because remote senders choose the addresses. With mode = "+
			`"probe" the address ::1 then does not count as this host; 127.0.0.1 always does.`)
	table("tls", "Which certificates are trusted.")
	add("ca_file", &s.TLS.CAFile, "", path,
		"Root certificates in PEM for probes, MTA-STS and DNS over TLS. Empty means the root certificates of the "+
			"system.")
	table("admin", "The socket through which the commands reach the daemon: status, cache, promises, report, warm, "+
		"reload, log-level and query --live.")
	add("socket", &s.Admin.Socket, "/run/policyd/admin.sock",
		restart(of("a path that begins with / and has at most 107 bytes", optional(socketPath))),
		"Path of the socket. Empty means no socket.")
	table("http",
		"Answers in JSON over HTTP for mail servers other than Postfix. The admin socket gives the same answers.")
	add("listen", &s.HTTP.Listen, "", restart(of("host:port", optional(hostPort))),
		"Address for these mail servers, such as 127.0.0.1:2527, with /v1/policy and /v1/route only. HTTP does not "+
			"protect the answers, so use a loopback address. Empty means no listener.")
	table("metrics", "Metrics for Prometheus.")
	add("listen", &s.Metrics.Listen, "", restart(of("host:port", optional(hostPort))),
		"Address for Prometheus, such as 127.0.0.1:9526, with /metrics, /-/healthy and /-/ready. Empty means no "+
			"listener.")
	table("log", "The log goes to standard error.")
	add("level", &s.Log.Level, "info", oneOf("debug", "info", "warn", "error"), "Lowest level that is logged.")
	add("format", &s.Log.Format, "auto", restart(oneOf("auto", "text", "json")),
		"text writes a line with a time, json an object per line. auto means text; under systemd the lines have the "+
			"priorities of the journal and no time.")
	add("lookups", &s.Log.Lookups, "changes", oneOf("all", "changes", "none"),
		"Which decisions are logged: all of them, only those that differ from the previous one for the same next hop "+
			"(changes), or none.")
	return all
}

func (s *Settings) rows() (all []Row) {
	for _, t := range s.Tables() {
		all = append(all, t.Rows...)
	}
	return all
}

// Changed returns the settings that are not the default, as lines of TOML with dotted keys.
func (s Settings) Changed() []string {
	lines := []string{}
	for _, r := range s.rows() {
		if !reflect.DeepEqual(r.value.Interface(), r.byDefault.Interface()) {
			lines = append(lines, r.path+" = "+valueTOML(r.value.Interface()))
		}
	}
	return lines
}
