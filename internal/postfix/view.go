package postfix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/regfile"
)

// view is everything that was read at one time. A new reading replaces it.
type view struct {
	options     *Options // the options that it was read with
	read        time.Time
	err         error // something could not be read: the domains received here are unknown
	commands    Commands
	settings    Settings // the settings of the first instance, nil if they could not be read
	lists       []matchList
	hosts       map[string]bool
	addrs       map[netip.Addr]bool
	relays      map[string]bool // hosts in brackets that Postfix itself delivers to
	relayTables []tableQuery    // may have more of them
	// files and interfaces are the state of the files and of the addresses of this machine before they were read.
	files      map[string]os.FileInfo // nil: there is none, or it cannot be read
	interfaces string

	mu       sync.Mutex
	searches map[tableQuery]tableResult // what was looked up in the tables
}

// readView reads everything.
func readView(ctx context.Context, o *Options) *view {
	v := &view{
		options: o, hosts: map[string]bool{}, addrs: map[netip.Addr]bool{}, relays: map[string]bool{},
		files: map[string]os.FileInfo{}, searches: map[tableQuery]tableResult{},
	}
	v.err = v.readMachine()
	if v.err == nil {
		v.err = v.readPostfix(ctx)
	}
	v.read = time.Now()
	return v
}

// readMachine reads the addresses and the name of this machine.
func (v *view) readMachine() error {
	hostname, _ := os.Hostname()
	v.hosts[canonical(hostname)] = true
	for _, name := range v.options.OwnHosts {
		v.hosts[name] = true
	}
	local, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("cannot read the addresses of this machine: %w", err)
	}
	v.interfaces = fmt.Sprint(local)
	for _, l := range local {
		if p, err := netip.ParsePrefix(l.String()); err == nil {
			v.addrs[plain(p.Addr())] = true
		}
	}
	if v.options.LoopbackProbed {
		delete(v.addrs, netip.IPv6Loopback()) // a setting of Postfix may add it back
	}
	return nil
}

// readPostfix reads every instance (postmulti(1)): domains that any of them receives are received here. Without a
// Postfix there are no lists.
func (v *view) readPostfix(ctx context.Context) error {
	commands, err := Find(v.options.Postconf, v.options.ConfigDirectory)
	if err != nil {
		main := cmp.Or(v.options.ConfigDirectory, "/etc/postfix") + "/main.cf"
		if _, err := os.Lstat(main); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s exists, but postconf is not installed", main)
		}
		return nil
	}
	v.commands = commands
	others, err := v.readInstance(ctx, commands)
	if err != nil {
		return err
	}
	for _, directory := range others {
		if _, err := v.readInstance(ctx, Commands{commands.Postconf, directory}); err != nil {
			return err
		}
	}
	return nil
}

const (
	// listParameters are the lists of domains that Postfix receives mail for (ADDRESS_CLASS_README).
	listParameters  = "mydestination relay_domains virtual_alias_domains virtual_mailbox_domains"
	otherParameters = "parent_domain_matches_subdomains myhostname proxy_interfaces inet_interfaces " +
		"multi_instance_directories"
)

// readInstance reads the lists, names, addresses and relay hosts of one instance, and returns the configuration
// directories of the others. The state of a file is noted before the file is read, so that a change in between counts.
func (v *view) readInstance(ctx context.Context, c Commands) (others []string, err error) {
	location, err := c.Read(ctx, "-x config_directory")
	if err != nil {
		return nil, err
	}
	directory := location["config_directory"]
	v.noteState(directory+"/main.cf", directory+"/master.cf")
	all := []string{"-x", listParameters, nexthopParameters, nexthopTables, otherParameters, clientParameters}
	p, err := c.Read(ctx, strings.Join(all, " "), "-P -x")
	if err != nil {
		return nil, err
	}
	if v.settings == nil {
		v.settings = p
	}
	parents := func(parameter string) bool { // subdomains count for a setting that has tables
		text := p["parent_domain_matches_subdomains"]
		return strings.Contains(text, parameter) || strings.ContainsAny(text, ":/!")
	}
	for _, at := range slices.Sorted(maps.Keys(p)) {
		parameter := at[strings.LastIndexByte(at, '/')+1:]
		v.addRelays(c, parameter, p[at])
		if slices.Contains(strings.Fields(listParameters), parameter) {
			relay := parameter == "relay_domains"
			l := matchList{parameter: at, at: c, parents: relay && parents(parameter), below: relay}
			if err := v.addList(l, p[at]); err != nil {
				return nil, err
			}
		}
	}
	// A domain in transport_maps has a route of its own, which policyd would override, because Postfix looks up the
	// whole address in all tables before it looks up the domain. Tables of patterns match the whole address too, so
	// their order decides.
	transports := slices.DeleteFunc(Tokens(p["transport_maps"]),
		func(t string) bool { return matchesByPattern(t) || asksPolicyd(t) || !strings.Contains(t, ":") })
	l := matchList{parameter: "transport_maps", at: c, parents: parents("transport_maps"), below: true, wildcard: true}
	if err := v.addList(l, strings.Join(transports, " ")); err != nil {
		return nil, err
	}
	v.hosts[canonical(p["myhostname"])] = true
	for _, parameter := range []string{"inet_interfaces", "proxy_interfaces"} {
		for _, text := range Tokens(p[parameter]) {
			a, err := netip.ParseAddr(strings.Trim(text, "[]"))
			switch {
			case err == nil:
				v.addrs[plain(a)] = true
			case parameter == "proxy_interfaces":
				return nil, fmt.Errorf("%s has %s: write its address", parameter, text)
			default:
				v.hosts[canonical(text)] = true // its addresses are those of interfaces
			}
		}
	}
	return Tokens(p["multi_instance_directories"]), nil
}

func (v *view) addList(l matchList, text string) error {
	if strings.Contains(text, "$") && !strings.Contains(text, ":") {
		return fmt.Errorf("%s: postconf did not expand %q", l.parameter, text)
	}
	err := l.add(text, 0, func(path string) (string, error) {
		v.noteState(path)
		text, err := regfile.Read(path)
		return string(text), err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", l.parameter, err)
	}
	for _, table := range l.tables {
		// policyd's maps do not list the domains that are received here, and policyd would query itself.
		if asksPolicyd(table) {
			return fmt.Errorf("%s asks policyd itself (%s): remove that table", l.parameter, table)
		}
		if i := strings.Index(table, ":/"); i >= 0 {
			path := table[i+1:]
			v.noteState(path, path+".db", path+".lmdb", path+".cdb", path+".pag")
		}
	}
	if len(l.names)+len(l.tables) > 0 {
		v.lists = append(v.lists, l)
	}
	return nil
}

// asksPolicyd reports whether a table is, or combines, one of policyd's maps.
var asksPolicyd = regexp.MustCompile(
	`(?i)socketmap:[^ ,}]*:(transport|tls-policy|tls-policy-tlsrpt|query|querywithtlsrpt|sts)([ ,}]|$)`).MatchString

// noteState records the state of files.
func (v *view) noteState(paths ...string) {
	for _, path := range paths {
		v.files[path], _ = os.Stat(path)
	}
}

// changed reports whether a file or an address of this machine has changed.
func (v *view) changed() bool {
	for path, then := range v.files {
		now, _ := os.Stat(path)
		same := now != nil && then != nil && os.SameFile(now, then) && now.Size() == then.Size() &&
			now.ModTime().Equal(then.ModTime())
		if !same && (now != nil || then != nil) {
			return true
		}
	}
	local, err := net.InterfaceAddrs()
	return err != nil || fmt.Sprint(local) != v.interfaces
}
