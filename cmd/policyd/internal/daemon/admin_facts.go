package daemon

import (
	"cmp"
	"slices"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
)

// listCache shows what the cache has.
func (d *Daemon) listCache(f admin.Filter) (list admin.CacheList) {
	list.Entries, list.More = atMost(f.Limit, d.cache.List(f.Match, f.Limit+1))
	return list
}

// atMost returns the beginning of a list, and whether there is more.
func atMost[T any](limit int, list []T) ([]T, bool) {
	return list[:min(len(list), limit)], len(list) > limit
}

// getDomain shows everything that is known about a domain: what the cache has for the domain and for its MX hosts, each
// with the names below it. It causes no lookup.
func (d *Daemon) getDomain(q admin.DomainRequest) status.Domain {
	names := d.namesOf(q.Domain)
	known := status.Domain{Domain: q.Domain, Cache: []dnscache.Entry{}, Probes: d.probesOf(names)}
	seen := map[dns.Question]bool{}
	for _, name := range names {
		entries := d.cache.Get(name)
		slices.SortStableFunc(entries, func(a, b dnscache.Entry) int { return cmp.Compare(len(a.Name), len(b.Name)) })
		for _, e := range entries {
			if question := (dns.Question{Name: e.Name, Type: e.Type}); !seen[question] {
				seen[question] = true
				known.Cache = append(known.Cache, e)
			}
		}
	}
	if e, ok := d.store.Get(q.Domain); ok {
		known.MTASTS = &e
	}
	return known
}

// namesOf returns a domain and its MX hosts, as far as the cache has them.
func (d *Daemon) namesOf(domain string) []string {
	names := []string{domain}
	for _, e := range d.cache.Get(domain) {
		if e.Name != domain || e.Type != dns.TypeMX {
			continue
		}
		for _, record := range e.Data {
			_, host, _ := strings.Cut(record, " ")
			name, ok := policy.ParseName(host)
			if ok && !slices.Contains(names, name) && len(names) <= policy.MaxHosts {
				names = append(names, name)
			}
		}
	}
	return names
}

// flush forgets, so that the next lookup asks again. The verdicts of probes stay: the prober knows when to look again.
func (d *Daemon) flush(f admin.FlushRequest) (flushed admin.Flushed) {
	what := f.Domain
	if f.All {
		what, flushed.Cache = "everything", d.cache.FlushAll()
	} else {
		for _, name := range d.namesOf(f.Domain) {
			flushed.Cache += d.cache.Flush(name)
		}
	}
	if f.STS && d.store.Flush(f.Domain) {
		flushed.Policies = 1 // or a failure
	}
	d.log.Info("cache flushed by the operator", "what", what, "sts", f.STS, "entries", flushed.Cache, "policies",
		flushed.Policies)
	return flushed
}

// probesOf are the verdicts on those of the hosts that promise implicit TLS. Nothing is probed for being shown.
func (d *Daemon) probesOf(hosts []string) []status.Probe {
	probes := []status.Probe{}
	for _, host := range slices.Sorted(slices.Values(hosts)) {
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
