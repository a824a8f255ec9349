// Package postfix reads the configuration of Postfix on this machine.
//
// A Site reports which domains Postfix receives. transport_maps takes precedence over mydestination, relay_domains and the
// virtual domains, so a route for a domain that is received here causes a mail loop (transport(5)). The Site uses the
// settings, Postfix's own lists, which it reads with postconf(1) and matches as match_list(3) does, and the names and
// addresses of this machine. Every doubt is an error, which leaves the mail on port 25. Where this package differs from
// Postfix, more domains count as received here, not fewer.
//
// It also reports which hosts Postfix itself relays to.
package postfix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

// Options are the settings of a Site.
type Options struct {
	// ExcludeDomains never get a route: example.com is that domain alone, .example.com all names below it, as
	// in the overrides file.
	ExcludeDomains []string
	// OwnHosts are further names of this host, as MX records may have them.
	OwnHosts []string
	// LoopbackProbed is set if loopback addresses are probed too, so that a host gets a route only after it has presented a
	// certificate for its own name. Then the address ::1 alone does not make a host this one, because there is only one
	// IPv6 loopback address for the receivers of a test. 127.0.0.1 always is this host.
	LoopbackProbed bool
	// Postconf is the path of postconf(1); the other commands are in the same directory. "" means the one in PATH or in the
	// sbin directories; without a Postfix there are no lists.
	Postconf string
	// ConfigDirectory is the directory of main.cf; "" means the default of Postfix.
	ConfigDirectory string
	// Refresh is the time after which the lists are read again even if no file has changed; zero means a minute.
	Refresh time.Duration
	// Resolver looks up names in proxy_interfaces and inet_interfaces. Without a resolver, such a name is an error.
	Resolver dns.Resolver
	Logger   *slog.Logger
}

// Site reports what this site receives. Run keeps its data fresh; without Run it reads the configuration when it is
// asked.
type Site struct {
	current atomic.Pointer[view] // nil: not read yet
	reading chan struct{}        // holds a token while the configuration is read
	change  chan struct{}
	tables  *tables

	mu      sync.Mutex // guards what follows
	config  *config
	problem string // the last problem that was logged
}

// config is an Options that has been checked.
type config struct {
	Options
	exclude list
	hosts   map[string]bool
}

// New returns a Site. The error names the domain or host of the options that is invalid.
func New(o Options) (*Site, error) {
	s := &Site{reading: make(chan struct{}, 1), change: make(chan struct{}, 1), tables: newTables()}
	return s, s.Configure(o)
}

// Configure applies new options, and the configuration of Postfix is read again. After an error the previous options
// remain.
func (s *Site) Configure(o Options) error {
	if o.Refresh <= 0 {
		o.Refresh = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &config{Options: o, hosts: map[string]bool{}}
	for _, text := range o.ExcludeDomains {
		rest, below := strings.CutPrefix(text, ".")
		e := entry{text: canonical(rest)}
		if !hostname(e.text) {
			return fmt.Errorf("postfix: %q in exclude_domains is not a domain: write example.com, or .example.com for all its subdomains", text)
		}
		if below {
			e.text = "." + e.text
		}
		c.exclude.entries = append(c.exclude.entries, e)
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

// Own reports whether mail for domain is received here, and which list has it: one of the settings, or one of
// Postfix. After an error it is unknown, unless a list has the domain. With Effort.CacheOnly it never waits for
// Postfix's commands: the error is dns.ErrNotCached where it would have to.
func (s *Site) Own(ctx context.Context, domain string, e dns.Effort) (own bool, why string, err error) {
	domain = canonical(domain)
	ask := func(q question) answer { return s.tables.recall(q) }
	if !e.CacheOnly {
		ask = func(q question) answer { return s.tables.ask(ctx, q) }
	}
	if has, by, _ := s.options().exclude.match(domain, nil); has {
		return true, "exclude_domains has " + by, nil
	}
	if localhost(domain) {
		return true, domain + " is this machine", nil
	}
	v, err := s.knowledge(ctx, !e.CacheOnly)
	if err != nil {
		return false, "", err
	}
	for _, l := range v.lists {
		has, by, failed := l.match(domain, func(table string, keys []string) (string, error) {
			a := ask(question{l.at, table, strings.Join(keys, " ")})
			return a.found, a.err
		})
		switch {
		case has:
			return true, l.parameter + " has " + by, nil
		case failed == nil || err != nil && !errors.Is(err, dns.ErrNotCached): // a failure says more than "not cached"
		case errors.Is(failed, dns.ErrNotCached):
			err = failed
		default:
			err = errors.New(l.parameter + ": " + failed.Error())
		}
	}
	return false, "", err
}

// OwnHost reports whether name is a name of this host: one of own_hosts, $myhostname, the machine's own name,
// localhost, or one of these behind a prefix, because smtps-mx.example.com is the new name of
// mx.example.com. Before anything has been read, every name counts.
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
// anything has been read, every address counts.
func (s *Site) OwnAddr(a netip.Addr) bool {
	v := s.current.Load()
	a = plain(a)
	return v == nil || !a.IsValid() || a.IsUnspecified() || v.addrs[a]
}

// Lists returns the parameters of Postfix's lists that have entries, and the domains that the lists name, without what is in
// tables; .example.com stands for all names below it.
func (s *Site) Lists() (parameters, domains []string) {
	v := s.current.Load()
	if v == nil {
		return nil, nil
	}
	seen := map[string]bool{}
	for _, l := range v.lists {
		parameters = append(parameters, l.parameter)
		for _, e := range l.entries {
			if !e.table && !e.negate && hostname(strings.TrimPrefix(e.text, ".")) && !seen[e.text] {
				seen[e.text] = true
				domains = append(domains, e.text)
			}
		}
	}
	return slices.Compact(parameters), domains
}

// machine returns the host name of this machine, "" if it is invalid.
func machine() string {
	name, err := os.Hostname()
	if name = canonical(name); err != nil || !hostname(name) {
		return ""
	}
	return name
}
