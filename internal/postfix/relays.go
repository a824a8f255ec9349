package postfix

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/regfile"
)

// The parameters that name hosts to which Postfix itself delivers, and those that name tables of such hosts.
const (
	nexthopParameters = "relayhost smtp_fallback_relay default_transport relay_transport virtual_transport " +
		"local_transport mailbox_transport fallback_transport content_filter"
	nexthopTables = "sender_dependent_relayhost_maps sender_dependent_default_transport_maps transport_maps"
)

// RelayHost reports whether Postfix's own configuration delivers to [host]: relayhost, the fallback relays, the default
// transports, and the results of the sender-dependent and transport tables. Tables whose contents cannot be listed,
// such as ldap:, are not searched; a table that fails is an error unless the host is found elsewhere. With
// Effort.CacheOnly it does not wait for Postfix's commands, and the error is dns.ErrNotCached.
func (s *Site) RelayHost(ctx context.Context, host string, effort dns.Effort) (bool, error) {
	host = canonical(host)
	v, err := s.view(ctx, effort)
	if v == nil {
		return false, err
	}
	if v.relays[host] {
		return true, nil
	}
	for _, table := range v.relayTables {
		r := s.search(ctx, v, table, effort)
		if slices.Contains(r.found, host) {
			return true, nil
		}
		err = errors.Join(err, r.err)
	}
	return false, err
}

// addRelays adds the hosts that a parameter names, and the tables of such hosts.
func (v *view) addRelays(c Commands, parameter, value string) {
	tables := slices.Contains(strings.Fields(nexthopTables), parameter)
	if tables || slices.Contains(strings.Fields(nexthopParameters), parameter) {
		addHosts(v.relays, value)
	}
	for _, table := range Tokens(value) {
		if tables {
			v.relayTables = append(v.relayTables, tableQuery{at: c, table: table})
		}
	}
}

// resultHosts returns the hosts in brackets among the results of a table whose contents can be listed: the entries of
// an indexed file, or the source of a table of patterns. The contents of an inline: table are in main.cf.
func (c Commands) resultHosts(ctx context.Context, table string) ([]string, error) {
	var contents string
	var err error
	table = strings.TrimPrefix(table, "proxy:")
	kind, path, _ := strings.Cut(table, ":")
	switch {
	case slices.Contains([]string{"hash", "btree", "lmdb", "cdb", "dbm", "sdbm"}, kind):
		contents, _, err = c.run(ctx, process{path: c.beside("postmap"), args: []string{"-s", table}})
	case strings.HasPrefix(path, "/") && slices.Contains([]string{"texthash", "regexp", "pcre", "cidr"}, kind):
		var text []byte
		text, err = regfile.Read(path)
		contents = string(text)
	}
	hosts := map[string]bool{}
	for line := range strings.Lines(contents) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			addHosts(hosts, line)
		}
	}
	return slices.Collect(maps.Keys(hosts)), err
}

// bracketed matches a next hop without MX lookup, such as [relay.example.com], and captures the host.
var bracketed = regexp.MustCompile(`\[([A-Za-z0-9._-]+)\]`)

// addHosts adds the hosts in brackets in a text.
func addHosts(hosts map[string]bool, text string) {
	for _, found := range bracketed.FindAllStringSubmatch(text, -1) {
		hosts[canonical(found[1])] = true
	}
}
