// Package postfix reads the configuration of Postfix on this machine.
//
// A Site reports which domains Postfix receives, and which hosts it relays to. transport_maps takes precedence over
// mydestination, relay_domains and the virtual domains, so a route for a domain that is received here makes a mail loop
// (transport(5)). The Site uses the settings, Postfix's own lists, matched as match_list(3) does, and the names and
// addresses of this machine. Every doubt is an error, which leaves the mail on port 25. Where this package differs from
// Postfix, more domains count as received here, not fewer. A Client judges receivers as smtp(8) does. The methods of
// Settings are rules of Postfix for what postconf(1) prints.
package postfix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/prefix"
)

// Options are the settings of a Site.
type Options struct {
	// ExcludeDomains never get a route: example.com is that domain alone, .example.com all names below it.
	ExcludeDomains []string
	// OwnHosts are further names of this host, as MX records may have them.
	OwnHosts []string
	// LoopbackProbed is set if loopback addresses are probed too. Then the address ::1 alone does not make a host this
	// one, because there is only one for all receivers of a test. 127.0.0.1 always is this host.
	LoopbackProbed bool
	// Postconf and ConfigDirectory are those of Commands; "": as Find does.
	Postconf, ConfigDirectory string
	Logger                    *slog.Logger
}

// Site reports what this site receives. Run keeps its data fresh; without Run it reads the configuration when it is
// asked.
type Site struct {
	options atomic.Pointer[Options] // names are in canonical form
	latest  atomic.Pointer[view]    // nil: not read yet
	reading *semaphore.Weighted     // held while the configuration is read
	problem error                   // the logged problem of the last reading; guarded by reading
	slots   *semaphore.Weighted     // one per table that is being searched
	fingers *semaphore.Weighted     // one per posttls-finger that runs
}

// maxProcesses is how many tables are searched at the same time, and how many receivers are judged.
const maxProcesses = 4

// New returns a Site.
func New(o Options) *Site {
	s := &Site{reading: semaphore.NewWeighted(1)}
	s.slots, s.fingers = semaphore.NewWeighted(maxProcesses), semaphore.NewWeighted(maxProcesses)
	s.Configure(o)
	return s
}

// Configure applies new options; data that was read with other options no longer counts.
func (s *Site) Configure(o Options) {
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.ExcludeDomains, o.OwnHosts = slices.Clone(o.ExcludeDomains), slices.Clone(o.OwnHosts)
	for _, names := range [][]string{o.ExcludeDomains, o.OwnHosts} {
		for i, name := range names {
			names[i] = canonical(name)
		}
	}
	s.options.Store(&o)
}

// Own reports whether mail for domain is received here, and which list has it: one of the settings, or one of
// Postfix. After an error it is unknown, unless a list has the domain. With Effort.CacheOnly it never waits for
// Postfix's commands: the error is dns.ErrNotCached where it would have to.
func (s *Site) Own(ctx context.Context, domain string, effort dns.Effort) (own bool, why string, err error) {
	domain = canonical(domain)
	exclude := matchList{names: s.options.Load().ExcludeDomains}
	if name := exclude.name(domain); name != "" {
		return true, "exclude_domains has " + name, nil
	}
	if isLocalhost(domain) {
		return true, domain + " is this machine", nil
	}
	v, err := s.view(ctx, effort)
	if err != nil {
		return false, "", err
	}
	for _, l := range v.lists {
		if name := l.name(domain); name != "" {
			return true, l.parameter + " has " + name, nil
		}
	}
	for _, l := range v.lists {
		for _, table := range l.tables {
			q := tableQuery{at: l.at, table: table, keys: strings.Join(l.keys(table, domain), " ")}
			r := s.search(ctx, v, q, effort)
			if len(r.found) > 0 {
				return true, l.parameter + " has " + r.found[0] + " in " + table, nil
			}
			// The first failure is returned: it says more than ErrNotCached.
			if r.err != nil && (err == nil || errors.Is(err, dns.ErrNotCached)) {
				err = fmt.Errorf("%s: %w", l.parameter, r.err)
			}
		}
	}
	return false, "", err
}

// OwnHost reports whether name is a name of this host: one of own_hosts, $myhostname, the machine's own name,
// localhost, or one of these behind a prefix. Before anything has been read, every name counts.
func (s *Site) OwnHost(name string) bool {
	v := s.current()
	name = canonical(name)
	return v == nil || isLocalhost(name) || v.hosts[name] || v.hosts[strings.TrimPrefix(name, prefix.Of(name).Prefix())]
}

// OwnAddr reports whether a is an address of this host: exactly one of a local interface or of proxy_interfaces and
// inet_interfaces, or the unspecified address. Before anything has been read, every address counts.
func (s *Site) OwnAddr(a netip.Addr) bool {
	v := s.current()
	a = plain(a)
	return v == nil || !a.IsValid() || a.IsUnspecified() || v.addrs[a]
}

// Lists returns the parameters that have entries, and the domains that they name, without what is in tables;
// .example.com stands for all names below it.
func (s *Site) Lists() (parameters, domains []string) {
	v := cmp.Or(s.current(), &view{})
	seen := map[string]bool{}
	for _, l := range v.lists {
		parameters = append(parameters, l.parameter)
		for _, name := range l.names {
			if !seen[name] && prefix.ValidHost(strings.TrimPrefix(name, ".")) {
				domains = append(domains, name)
			}
			seen[name] = true
		}
	}
	return slices.Compact(parameters), domains
}
