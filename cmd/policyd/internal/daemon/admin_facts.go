package daemon

import (
	"slices"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/prefix"
)

// listCache shows what the cache has.
func (d *Daemon) listCache(f admin.Filter) admin.CacheList {
	found := d.cache.List(f.Match, f.Limit+1)
	return admin.CacheList{More: len(found) > f.Limit, Entries: found[:min(len(found), f.Limit)]}
}

// getDomain shows everything that is known about a domain: what the cache has for the domain itself, for its MX hosts
// in their order, and for what else is below it.
func (d *Daemon) getDomain(domain string) status.Domain {
	hosts := d.hostsOf(domain)
	known := status.Domain{
		Domain: domain, Cache: []dnscache.Entry{},
		MTASTS: d.storedPolicy(domain), Probes: d.probesOf(append([]string{domain}, hosts...)),
	}
	seen := map[string]bool{}
	add := func(entries []dnscache.Entry, wanted func(name string) bool) {
		for _, e := range entries {
			if key := e.Type.String() + " " + e.Name; wanted(e.Name) && !seen[key] {
				seen[key] = true
				known.Cache = append(known.Cache, e)
			}
		}
	}
	all := func(string) bool { return true }
	below := d.cache.Get(domain)
	add(below, func(name string) bool { return name == domain })
	for _, h := range hosts {
		entries := d.cache.Get(h)
		add(entries, func(name string) bool { return name == h })
		add(entries, all)
	}
	add(below, all)
	return known
}

// hostsOf returns the MX hosts of a domain as far as the cache has them.
func (d *Daemon) hostsOf(domain string) (hosts []string) {
	for _, e := range d.cache.Get(domain) {
		if e.Name != domain || e.Type != dns.TypeMX {
			continue
		}
		for _, record := range e.Data {
			_, host, _ := strings.Cut(record, " ")
			if name, ok := policy.ParseName(host); ok && !slices.Contains(hosts, name) && len(hosts) < policy.MaxHosts {
				hosts = append(hosts, name)
			}
		}
	}
	return hosts
}

// flush forgets, so that the next lookup asks again. The verdicts of probes stay: the prober knows when to look again.
func (d *Daemon) flush(f admin.FlushRequest) admin.Flushed {
	if f.All {
		return admin.Flushed{Cache: d.cache.FlushAll()}
	}
	var flushed admin.Flushed
	for _, name := range append(d.hostsOf(f.Domain), f.Domain) {
		flushed.Cache += d.cache.Flush(name)
	}
	if f.STS && d.store.Flush(f.Domain) {
		flushed.Policies = 1 // or a failure
	}
	return flushed
}

// mtastsStatus is how the store of MTA-STS policies is doing; nil: MTA-STS is switched off.
func (d *Daemon) mtastsStatus() *stsstore.Stats {
	if !d.loaded.Load().PolicyOptions().MTASTS {
		return nil
	}
	return new(d.store.Stats())
}

// storedPolicy is what the store has for a domain; nil: nothing.
func (d *Daemon) storedPolicy(domain string) *status.StoredPolicy {
	e, ok := d.store.Get(domain)
	if !ok {
		return nil
	}
	return &status.StoredPolicy{
		Mode: string(e.Policy.Policy.Mode), ID: e.Policy.ID, MX: e.Policy.Policy.MX,
		Fetched: e.Policy.Fetched, Expires: e.Policy.Expires, Failure: e.Reason, Retry: e.Retry,
	}
}

// probeStatus is what the prober knows; nil: nothing is probed.
func (d *Daemon) probeStatus() *probe.Stats {
	if d.loaded.Load().PolicyOptions().Port26 != policy.PortProbe {
		return nil
	}
	return new(d.prober.Stats())
}

// probesOf are the verdicts on those of the hosts that promise implicit TLS. Nothing is probed for being shown.
func (d *Daemon) probesOf(hosts []string) []status.Probe {
	probes := []status.Probe{}
	for _, host := range slices.Compact(slices.Sorted(slices.Values(hosts))) {
		if prefix.Of(host).ImplicitTLS() {
			v := d.prober.Verdict(host)
			probes = append(probes, status.Probe{
				Host: host, State: v.State.String(), Cause: strings.ReplaceAll(string(v.Cause), " ", "-"),
				Checked: v.Checked, Expires: v.Expires, Why: v.Why,
			})
		}
	}
	return probes
}
