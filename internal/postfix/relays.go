package postfix

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dns"
)

// nexthopParameters are the parameters whose values are next hops; nexthopTables are those whose tables have next hops
// for results (postconf(5)).
func nexthopParameters() []string {
	return []string{"relayhost", "default_transport", "relay_transport", "smtp_fallback_relay"}
}

func nexthopTables() []string {
	return []string{"sender_dependent_relayhost_maps", "sender_dependent_default_transport_maps", "transport_maps"}
}

// bracketed matches a next hop without MX lookup, such as [relay.example.com], and captures the host.
var bracketed = regexp.MustCompile(`\[([A-Za-z0-9._-]+)\]`)

// addRelays records the hosts in brackets in a parameter, and the tables that may have more of them.
func (v *view) addRelays(c Commands, parameter, value string) {
	addHosts(v.relays, value)
	if slices.Contains(nexthopTables(), parameter) {
		for _, table := range tokens(value) {
			v.relayTables = append(v.relayTables, question{at: c, table: strings.TrimPrefix(table, "proxy:")})
		}
	}
}

// addHosts adds the bracketed hosts in a text.
func addHosts(hosts map[string]bool, text string) {
	for _, found := range bracketed.FindAllStringSubmatch(text, -1) {
		if name := canonical(found[1]); hostname(name) {
			hosts[name] = true
		}
	}
}

// RelayHost reports whether Postfix's own configuration delivers to [host]: relayhost, the fallback relays, the default
// transports, and the results of the sender-dependent and transport tables. It may wait for Postfix's commands. Tables whose
// contents cannot be listed, such as ldap:, are not searched; a table that fails is an error unless the host is
// found elsewhere. With Effort.CacheOnly it does not wait, and the error is dns.ErrNotCached.
func (s *Site) RelayHost(ctx context.Context, host string, e dns.Effort) (bool, error) {
	if e.CacheOnly {
		return false, dns.ErrNotCached
	}
	host = canonical(host)
	v, err := s.knowledge(ctx, true)
	if v == nil {
		return false, err
	}
	if v.relays[host] {
		return true, nil
	}
	for _, table := range v.relayTables {
		a := s.tables.ask(ctx, table)
		if a.hosts[host] {
			return true, nil
		}
		err = errors.Join(err, a.err)
	}
	return false, err
}

// resultHosts returns the bracketed hosts among the results of a table.
func (c Commands) resultHosts(ctx context.Context, table string) (map[string]bool, error) {
	text, err := c.contents(ctx, table)
	hosts := map[string]bool{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			addHosts(hosts, line)
		}
	}
	return hosts, err
}

// contents returns the text of a table that can be listed: the entries of an indexed file, or the source of a table of
// patterns. It is "" for other types, and for inline: tables, whose contents are in main.cf.
func (c Commands) contents(ctx context.Context, table string) (string, error) {
	kind, path, _ := strings.Cut(table, ":")
	switch kind {
	case "hash", "btree", "lmdb", "cdb", "dbm", "sdbm":
		p := process{path: c.Postmap(), args: c.args("-s", table), limit: maxFile}
		err := p.run(ctx)
		return p.stdout.String(), err
	case "texthash", "regexp", "pcre", "cidr":
		if strings.HasPrefix(path, "/") {
			return readFile(path)
		}
	case "unionmap", "pipemap", "randmap":
		var all strings.Builder
		inside := strings.TrimSuffix(strings.TrimPrefix(path, "{"), "}")
		for _, part := range tokens(inside) {
			text, err := c.contents(ctx, strings.TrimPrefix(part, "proxy:"))
			if err != nil {
				return "", err
			}
			all.WriteString(text + "\n")
		}
		return all.String(), nil
	}
	return "", nil
}
