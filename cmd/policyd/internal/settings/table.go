package settings

import (
	"reflect"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/stub"
)

// Entry documents one setting.
type Entry struct {
	// Key is the table and the name, with a dot, or the name alone at the top of the file.
	Key string
	// Type says what may be written, for people.
	Type string
	// Default is the default as TOML.
	Default string
	// Doc is one paragraph.
	Doc string
}

// Table documents a table of the file.
type Table struct {
	// Name is "" for the top of the file.
	Name, Doc string
	Entries   []Entry
}

// row is a setting in the table: what the reader is told, and what is checked.
type row struct {
	key, form, doc string
	check          func(*Settings) error // nil: every value of the type is good
}

// section is a table of the file.
type section struct {
	name, doc string
	rows      []row
}

// sections are all settings there are, in the order of the sample file.
func sections() []section {
	return []section{
		{"", "", []row{
			{
				"mode", `"enforce", "report" or "off"`,
				"What is done with the decisions: they are answered (enforce); they are logged and counted, and Postfix is told that there is no policy (report); or nothing is looked up and everything is answered NOTFOUND (off).",
				func(s *Settings) error { return word[policy.Mode](s.Mode) },
			},
			{
				"overrides", "path",
				"Your own rulings, one a line: a domain (example.com, or .example.com for all its subdomains) and ignore, no-port26 or a Postfix TLS policy. The default file does not have to exist; another one does.",
				func(s *Settings) error { return absolutePath(s.Overrides) },
			},
		}},
		{"server", "Where Postfix asks.", []row{
			{
				"listen", "list of host:port and unix:/path",
				"Addresses of the socketmap server. Listeners passed by systemd (policyd.socket) replace these. A change needs a restart.",
				func(s *Settings) error { return distinct(s.Server.Listen, listenAddress) },
			},
			{
				"socket_mode", "octal permissions in quotes",
				"Permissions of the unix sockets in listen. A change needs a restart.",
				func(s *Settings) error { return socketMode(s.Server.SocketMode) },
			},
			{
				"socket_group", "name or number of a group",
				"Group of the unix sockets in listen; empty for the group of the process. Postfix must be a member, so this is often postfix. A change needs a restart.",
				func(s *Settings) error { return group(s.Server.SocketGroup) },
			},
			{
				"max_connections", "1 to 1000000",
				"How many connections may be open. When there are more, the one that has been idle for longest is closed.",
				func(s *Settings) error { return between(s.Server.MaxConnections, 1, 1_000_000) },
			},
			{
				"idle_timeout", "duration, 1s to 24h",
				"How long a connection may be silent between requests.",
				func(s *Settings) error { return duration(s.Server.IdleTimeout, 10*time.Millisecond, 24*time.Hour) },
			},
			{
				"drain_timeout", "duration, 0s to 10m",
				"How long requests that have begun are waited for when the service stops.",
				func(s *Settings) error { return duration(s.Server.DrainTimeout, 0, 10*time.Minute) },
			},
		}},
		{"dns", "Who is asked for MX, TLSA and other records. Use a validating resolver on this host, and the same one as Postfix.", []row{
			{
				"servers", "list of at most 3 DNS servers",
				`Recursive resolvers, such as "127.0.0.1", "127.0.0.1:5300", "[::1]:53" or, for DNS over TLS, "tls://name@192.0.2.1:853". Empty: those of /etc/resolv.conf, followed when it changes.`,
				func(s *Settings) error { return dnsServers(s.DNS.Servers) },
			},
			{
				"trust_ad", `"auto", "always" or "never"`,
				"Whether the resolver's word (the AD bit) that an answer is secure is believed: auto believes servers on loopback other than systemd-resolved. Whatever this says, a resolver that does not pass the self-test is not believed.",
				func(s *Settings) error { return word[stub.TrustMode](s.DNS.TrustAD) },
			},
			{
				"timeout", "duration, 10ms to 30s",
				"How long a server has for its first answer. The second try has 5/3 of it, and a lookup four times as long in all.",
				func(s *Settings) error { return duration(s.DNS.Timeout, 10*time.Millisecond, 30*time.Second) },
			},
			{
				"self_test", "list of domain names",
				"Names with a signed NS RRset that a validating resolver must call secure. Change these only where the root zone is a private one.",
				func(s *Settings) error { return selfTest(s.DNS.SelfTest) },
			},
		}},
		{"cache", "What is remembered.", []row{
			{
				"max_entries", "1 to 100000000",
				"How many DNS answers are kept in memory, about 8 for a domain with DANE; fewer where a memory limit of the process does not leave room for so many.",
				func(s *Settings) error { return between(s.Cache.MaxEntries, 1, 100_000_000) },
			},
			{
				"state_dir", "path",
				"Directory for what must survive a restart: MTA-STS policies and the results of probes. Empty: nothing survives. A change needs a restart.",
				func(s *Settings) error { return optional(s.Cache.StateDir, absolutePath) },
			},
		}},
		{"policy", "Which promises count.", []row{
			{
				"unsigned_mx", `"secure" or "ignore"`,
				"A promise in an MX RRset without DNSSEC: honoured (secure), or taken for none (ignore).",
				func(s *Settings) error { return word[policy.Treatment](s.Policy.UnsignedMX) },
			},
			{
				"mixed_mx", `"secure" or "ignore"`,
				"A domain of which some MX hosts have a prefix and others have none: delivery through the prefixed hosts only (secure), or no policy (ignore).",
				func(s *Settings) error { return word[policy.Treatment](s.Policy.MixedMX) },
			},
			{"dane", "true or false", "Whether DANE (RFC 7672) is applied. A Postfix TLS policy table overrides Postfix's own DANE, so this should stay true.", nil},
			{"mta_sts", "true or false", "Whether MTA-STS (RFC 8461) is applied.", nil},
		}},
		{"port26", "Implicit TLS on port 26, for hosts with the prefix smtps-.", []row{
			{
				"mode", `"probe", "always" or "off"`,
				"When transport lookups answer with a route to port 26: for hosts that a probe has found to keep their promise (probe), for every smtps- host (always), or never (off).",
				func(s *Settings) error { return word[policy.PortMode](s.Port26.Mode) },
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
				"The longest that a transport lookup may take. After it the answer is NOTFOUND, which means port 25 under the TLS policy.",
				func(s *Settings) error { return duration(s.Port26.Wait, time.Millisecond, 10*time.Second) },
			},
			{
				"exclude_domains", "list of domains",
				"Domains that never get a route: example.com, or .example.com for all its subdomains. Those that Postfix on this machine receives itself are excluded anyway.",
				func(s *Settings) error { return distinct(s.Port26.ExcludeDomains, excludeDomain) },
			},
			{
				"own_hosts", "list of host names",
				"Further names of this host: a domain with one of them among its MX hosts never gets a route, because that would make a mail loop.",
				func(s *Settings) error { return distinct(s.Port26.OwnHosts, ownHost) },
			},
			{"probe_special_addresses", "true or false", "Whether private, loopback and other special addresses are probed, and MTA-STS policies fetched from them. True only for tests and private networks: strangers choose the addresses. With mode = \"probe\" the address ::1 is then not taken for this host; 127.0.0.1 always is.", nil},
		}},
		{"tls", "", []row{
			{
				"ca_file", "path",
				"Root certificates in PEM for probes, MTA-STS and DNS over TLS. Empty: the system's.",
				func(s *Settings) error { return optional(s.TLS.CAFile, absolutePath) },
			},
		}},
		{"admin", "The socket of policyd status, cache, reload and log-level.", []row{
			{
				"socket", "path",
				"Empty: there is none. A change needs a restart.",
				func(s *Settings) error { return optional(s.Admin.Socket, socketPath) },
			},
		}},
		{"metrics", "", []row{
			{
				"listen", "host:port",
				"Where Prometheus finds /metrics, such as 127.0.0.1:9526, with /-/healthy and /-/ready. Empty: nowhere. A change needs a restart.",
				func(s *Settings) error { return optional(s.Metrics.Listen, hostPort) },
			},
		}},
		{"log", "Standard error is the log.", []row{
			{
				"level", `"debug", "info", "warn" or "error"`,
				"The least severe messages that are logged.",
				func(s *Settings) error { return oneOf(s.Log.Level, levels()) },
			},
			{
				"format", `"auto", "text" or "json"`,
				"How: text with a time, JSON, or what fits (auto), which under systemd is text with the journal's priorities and without a time.",
				func(s *Settings) error { return oneOf(s.Log.Format, []string{"auto", "text", "json"}) },
			},
			{
				"lookups", `"all", "changes" or "none"`,
				"Which decisions are logged: all, those that differ from the last one for the same next hop, or none.",
				func(s *Settings) error { return word[lookup.LogMode](s.Log.Lookups) },
			},
		}},
	}
}

// path returns the full key of a row.
func (s section) path(r row) string {
	if s.name == "" {
		return r.key
	}
	return s.name + "." + r.key
}

// Tables documents every setting, in the order of the sample file.
func Tables() []Table {
	defaults := Default()
	var tables []Table
	for _, s := range sections() {
		t := Table{Name: s.name, Doc: s.doc}
		for _, r := range s.rows {
			key := s.path(r)
			t.Entries = append(t.Entries, Entry{Key: key, Type: r.form, Default: valueTOML(defaults.field(key)), Doc: r.doc})
		}
		tables = append(tables, t)
	}
	return tables
}

// Reference documents every setting, in the order of the sample file.
func Reference() []Entry {
	var all []Entry
	for _, t := range Tables() {
		all = append(all, t.Entries...)
	}
	return all
}

// field returns the value of a setting by its full key; the zero Value where there is no such key.
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
