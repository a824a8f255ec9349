package postfix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// view is everything that was read at one time. It is immutable; a new reading replaces it.
type view struct {
	installed  bool
	lists      []siteList
	hosts      map[string]bool
	addrs      map[netip.Addr]bool
	interfaces map[netip.Addr]bool
	// relays are hosts in brackets that Postfix itself delivers to; relayTables may have more of them.
	relays      map[string]bool
	relayTables []question
	files       []stamp
	read        time.Time
	// err is set if something could not be read. Then the domains received here are unknown.
	err error
}

// siteList is a list, with the commands of the Postfix instance that it belongs to.
type siteList struct {
	list
	at Commands
}

// readView reads everything.
func readView(ctx context.Context, c *config) *view {
	v := &view{hosts: map[string]bool{}, relays: map[string]bool{}, addrs: map[netip.Addr]bool{}}
	if v.interfaces, v.err = interfaces(); v.err != nil {
		v.read = time.Now()
		return v
	}
	maps.Copy(v.addrs, v.interfaces)
	if c.LoopbackProbed {
		delete(v.addrs, netip.IPv6Loopback()) // a setting of Postfix can add it again
	}
	if name := machine(); name != "" {
		v.hosts[name] = true
	}
	commands, err := Find(c.Postconf, c.ConfigDirectory)
	switch {
	case err == nil:
		v.installed = true
		v.err = v.readInstances(ctx, commands, c.Resolver)
	case exists(mainCF(c.ConfigDirectory)):
		v.err = fmt.Errorf("%s exists, but postconf is not installed", mainCF(c.ConfigDirectory))
	}
	v.read = time.Now()
	return v
}

func mainCF(configDirectory string) string {
	if configDirectory == "" {
		configDirectory = "/etc/postfix"
	}
	return configDirectory + "/main.cf"
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// readInstances reads the lists of the first Postfix instance and of the instances that it manages (postmulti(1)). Domains
// that any of them receives are received here.
func (v *view) readInstances(ctx context.Context, first Commands, res dns.Resolver) error {
	const maxInstances = 64
	others, err := v.readInstance(ctx, first, res)
	if err != nil {
		return err
	}
	if len(others) > maxInstances {
		return fmt.Errorf("more than %d Postfix instances", maxInstances)
	}
	for _, directory := range others {
		if _, err := v.readInstance(ctx, Commands{first.Postconf, directory}, res); err != nil {
			return err
		}
	}
	return nil
}

// listParameters are the lists of domains that Postfix receives mail for (ADDRESS_CLASS_README).
func listParameters() []string {
	return []string{"mydestination", "relay_domains", "virtual_alias_domains", "virtual_mailbox_domains"}
}

// readInstance reads the lists, names and addresses of one instance, and returns the configuration directories of the
// others. Files are recorded before they are read, so that a change in between is noticed.
func (v *view) readInstance(ctx context.Context, c Commands, res dns.Resolver) (others []string, err error) {
	p, err := c.Parameters(ctx, "config_directory")
	if err != nil {
		return nil, err
	}
	v.note(p["config_directory"]+"/main.cf", p["config_directory"]+"/master.cf")
	nexthops := append(nexthopParameters(), nexthopTables()...)
	p, err = c.Parameters(ctx, append(append(listParameters(), nexthops...),
		"parent_domain_matches_subdomains", "myhostname", "proxy_interfaces", "inet_interfaces", "multi_instance_directories")...)
	if err != nil {
		return nil, err
	}
	for _, name := range nexthops {
		v.addRelays(c, name, p[name])
	}
	parents := p["parent_domain_matches_subdomains"]
	for _, name := range listParameters() {
		l := list{parameter: name}
		if name == "relay_domains" {
			l.parents, l.below = covers(parents, name), true
		}
		if err := v.addList(c, l, p[name]); err != nil {
			return nil, err
		}
	}
	if err := v.addTransports(c, p["transport_maps"], parents); err != nil {
		return nil, err
	}
	if err := v.addOverrides(ctx, c); err != nil {
		return nil, err
	}
	v.hosts[canonical(p["myhostname"])] = true
	for _, text := range tokens(p["proxy_interfaces"] + " " + p["inet_interfaces"]) {
		if err := v.addInterface(ctx, text, res); err != nil {
			return nil, err
		}
	}
	return tokens(p["multi_instance_directories"]), nil
}

// covers reports whether parent_domain_matches_subdomains has a parameter. If it contains tables, subdomains count.
func covers(parents, parameter string) bool {
	return strings.Contains(parents, parameter) || strings.ContainsAny(parents, ":/!")
}

// addTransports adds the tables of transport_maps that have domains as keys. A domain in them has a route of its own, which
// policyd would override, because Postfix looks up the whole address in all tables before it looks up the domain. Tables
// of patterns match the whole address too, so their order in transport_maps decides.
func (v *view) addTransports(c Commands, text, parents string) error {
	var tables []string
	for _, table := range tokens(text) {
		if strings.Contains(table, ":") && !patterns(table) {
			tables = append(tables, table)
		}
	}
	l := list{parameter: "transport_maps", parents: covers(parents, "transport_maps"), below: true, rest: true}
	return v.addList(c, l, strings.Join(tables, " "))
}

// addOverrides adds the lists and relay hosts that services in master.cf set with -o.
func (v *view) addOverrides(ctx context.Context, c Commands) error {
	text, err := c.Show(ctx, "-P", "-x")
	if err != nil {
		return err
	}
	for name, value := range assignments(text) {
		parameter := name[strings.LastIndexByte(name, '/')+1:]
		if slices.Contains(nexthopParameters(), parameter) {
			v.addRelays(c, parameter, value)
		}
		if slices.Contains(listParameters(), parameter) && value != "" {
			below := parameter == "relay_domains"
			if err := v.addList(c, list{parameter: name, parents: below, below: below}, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *view) addList(c Commands, l list, text string) error {
	if strings.Contains(text, "$") && !strings.Contains(text, ":") {
		return fmt.Errorf("%s: postconf did not expand %q", l.parameter, text)
	}
	var err error
	l.entries, err = parseEntries(text, func(path string) (string, error) {
		v.note(path)
		return readFile(path)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", l.parameter, err)
	}
	for _, e := range l.entries {
		if !e.table {
			continue
		}
		if asksPolicyd(e.text) {
			return fmt.Errorf("%s asks policyd itself (%s): remove that table", l.parameter, e.text)
		}
		if _, path, ok := strings.Cut(e.text, ":/"); ok {
			path = "/" + path
			v.note(path, path+".db", path+".lmdb", path+".cdb", path+".pag")
		}
	}
	if len(l.entries) > 0 {
		v.lists = append(v.lists, siteList{l, c})
	}
	return nil
}

// asksPolicyd reports whether a table in a list of domains is one of policyd's maps. They do not tell which domains are
// received here, and policyd would ask itself.
func asksPolicyd(table string) bool {
	if !strings.Contains(table, "socketmap:") {
		return false
	}
	for _, name := range []string{":transport", ":tls-policy", ":tls-policy-tlsrpt", ":QUERY", ":QUERYwithTLSRPT"} {
		if strings.HasSuffix(strings.TrimRight(table, " }"), name) {
			return true
		}
	}
	return false
}

// addInterface adds an address of proxy_interfaces or inet_interfaces, or the addresses of a name.
func (v *view) addInterface(ctx context.Context, text string, res dns.Resolver) error {
	if text == "all" || text == "loopback-only" {
		return nil
	}
	bare := strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), "ipv6:")
	if a, err := netip.ParseAddr(bare); err == nil {
		v.addrs[plain(a)] = true
		return nil
	}
	name := canonical(text)
	if !hostname(name) {
		return fmt.Errorf("%q in proxy_interfaces or inet_interfaces is neither an address nor a name", text)
	}
	v.hosts[name] = true
	if localhost(name) {
		return nil
	}
	if res == nil {
		return fmt.Errorf("the name %s in proxy_interfaces or inet_interfaces: write its address", name)
	}
	found := false
	for _, t := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
		rrset, err := res.Lookup(ctx, dns.Question{Name: name, Type: t}, dns.Effort{})
		if err != nil {
			return fmt.Errorf("the name %s in proxy_interfaces or inet_interfaces: %w", name, err)
		}
		for _, a := range rrset.Addrs() {
			v.addrs[plain(a)], found = true, true
		}
	}
	if !found {
		return fmt.Errorf("the name %s in proxy_interfaces or inet_interfaces has no address in the DNS: write its address", name)
	}
	return nil
}

// interfaces returns the addresses of this machine.
func interfaces() (map[netip.Addr]bool, error) {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("cannot read the addresses of this machine: %w", err)
	}
	addrs := map[netip.Addr]bool{}
	for _, n := range nets {
		if ip, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(ip.IP); ok {
				addrs[plain(a)] = true
			}
		}
	}
	return addrs, nil
}
