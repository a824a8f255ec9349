// Package postfix knows what Postfix on this machine receives itself.
//
// transport_maps beats mydestination, relay_domains and the virtual domains, so a route for a domain that
// is received here makes a mail loop (transport(5)). A Site answers whether a domain is one of those: from
// the settings, from Postfix's own lists, read with postconf(1) and matched as match_list(3) does, and from
// the names and addresses of this machine. Every doubt is an error, which leaves the mail on port 25; where
// this package differs from Postfix, it takes more domains for its own and not fewer.
package postfix

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Options say what a Site knows without asking, and how it asks Postfix.
type Options struct {
	// ExcludeDomains never get a route: example.com is that domain alone, .example.com all names below it, as
	// in the overrides file.
	ExcludeDomains []string
	// OwnHosts are further names of this host, as MX records may have them.
	OwnHosts []string
	// LoopbackProbed says that no host gets a route that has not shown a certificate for its own name on its own
	// address, loopback included. Then ::1 alone does not make a host this one: it is the only IPv6 loopback address
	// there is, where IPv4 has 127.0.0.2 and more for the receivers of a test. 127.0.0.1 still is this host.
	LoopbackProbed bool
	// Postconf is the path of postconf(1); the other commands are beside it. "": it is looked for in PATH and
	// in the sbin directories, and if there is no Postfix there are no lists.
	Postconf string
	// ConfigDirectory is that of main.cf; "": Postfix's own default.
	ConfigDirectory string
	// Refresh is how often the lists are read again when no file has changed; zero means a minute.
	Refresh time.Duration
	// Resolver looks up names in proxy_interfaces and inet_interfaces. Without one they are a doubt.
	Resolver dns.Resolver
	Logger   *slog.Logger
}

// Site knows what this site receives itself. It implements policy.OwnSite; its methods may wait for
// Postfix's commands, those of Cached never do. Run keeps what it knows fresh; without Run it reads when asked.
type Site struct {
	current atomic.Pointer[view] // nil: not read yet
	reading chan struct{}        // holds a token while somebody reads
	change  chan struct{}
	tables  *tables

	mu      sync.Mutex // guards what follows
	config  *config
	problem string        // the last one that was logged
	retry   time.Duration // of the last view
}

// config is an Options that has been checked.
type config struct {
	Options
	exclude domains
	hosts   map[string]bool
}

// New returns a Site. The error says which domain or host of the options is none.
func New(o Options) (*Site, error) {
	s := &Site{reading: make(chan struct{}, 1), change: make(chan struct{}, 1), tables: newTables()}
	return s, s.Configure(o)
}

// Configure puts new options in force and has everything read again. After an error the old ones are
// still in force.
func (s *Site) Configure(o Options) error {
	if o.Refresh <= 0 {
		o.Refresh = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &config{Options: o, hosts: map[string]bool{}}
	for _, text := range o.ExcludeDomains {
		if !c.exclude.add(text) {
			return fmt.Errorf("postfix: %q in exclude_domains is not a domain: write example.com, or .example.com for all its subdomains", text)
		}
	}
	for _, text := range o.OwnHosts {
		name := canonical(text)
		if !hostname(name) {
			return fmt.Errorf("postfix: %q in own_hosts is not a host name", text)
		}
		c.hosts[name] = true
	}
	s.mu.Lock()
	s.config = c
	s.current.Store(nil)
	s.mu.Unlock()
	s.tables.flush()
	select {
	case s.change <- struct{}{}:
	default:
	}
	return nil
}

func (s *Site) options() *config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// Own reports whether mail for domain is received here, and which list says so. After an error nothing is known. With
// Effort.CacheOnly it never waits for Postfix's commands: the error is dns.ErrNotCached where it would have to.
func (s *Site) Own(ctx context.Context, domain string, e dns.Effort) (own bool, why string, err error) {
	return s.own(ctx, domain, !e.CacheOnly)
}

// OwnHost reports whether name is a name of this host: one of own_hosts, $myhostname, the machine's own name,
// localhost, or one of these behind a prefix, since smtps-mx.example.com is what mx.example.com is
// renamed to. Before anything has been read every name may be.
func (s *Site) OwnHost(name string) bool {
	c, v := s.options(), s.current.Load()
	if v == nil {
		return true
	}
	name = canonical(name)
	for _, n := range []string{name, withoutPrefix(name)} {
		if c.hosts[n] || v.hosts[n] {
			return true
		}
	}
	return localhost(name)
}

// OwnAddr reports whether a is an address of this host: exactly one of a local interface or of
// proxy_interfaces and inet_interfaces, or the unspecified address, which leads to this host too. Before
// anything has been read every address may be.
func (s *Site) OwnAddr(a netip.Addr) bool {
	v := s.current.Load()
	a = plain(a)
	return v == nil || !a.IsValid() || a.IsUnspecified() || v.addrs[a]
}

// State is what a Site knows, for people.
type State struct {
	// Installed is set when Postfix was found.
	Installed bool
	// Read is when everything was last read; zero: never.
	Read time.Time
	// Problem says why it is not known what is received here; no domain gets a route then. "": it is known.
	Problem string
	// Lists are Postfix's lists in words, such as "relay_domains: 3 names, hash:/etc/postfix/relay".
	Lists []string
	// Domains are those that the lists name, without what is in tables; .example.com stands for what is below.
	Domains []string
	// Hosts and Addrs are the names and addresses of this host.
	Hosts []string
	Addrs []netip.Addr
}

// State returns what is known now.
func (s *Site) State() State {
	v := s.current.Load()
	if v == nil {
		return State{Problem: "not read yet"}
	}
	st := State{Installed: v.installed, Read: v.read, Problem: s.tables.problem()}
	if v.err != nil {
		st.Problem = v.err.Error()
	}
	seen := map[string]bool{}
	for _, l := range v.lists {
		st.Lists = append(st.Lists, l.String())
		for _, e := range l.entries {
			if !e.table && !e.negate && hostname(strings.TrimPrefix(e.text, ".")) && !seen[e.text] {
				seen[e.text] = true
				st.Domains = append(st.Domains, e.text)
			}
		}
	}
	hosts := maps.Clone(v.hosts)
	maps.Copy(hosts, s.options().hosts)
	st.Hosts = slices.Sorted(maps.Keys(hosts))
	st.Addrs = slices.SortedFunc(maps.Keys(v.addrs), netip.Addr.Compare)
	return st
}

// machine returns the name of this machine if it is a full one.
func machine() string {
	name, err := os.Hostname()
	if name = canonical(name); err != nil || !hostname(name) {
		return ""
	}
	return name
}
