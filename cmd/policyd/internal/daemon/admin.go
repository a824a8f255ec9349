package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/prefix"
)

// api serves the admin socket.
func (d *Daemon) api() *admin.Server {
	s := admin.NewServer(admin.MaxEvaluations, d.log)
	admin.Answer(s, admin.GetStatus, func(struct{}) status.Status { return d.Status() })
	admin.Answer(s, admin.ListCache, d.listCache)
	admin.Answer(s, admin.GetDomain, d.getDomain)
	admin.Answer(s, admin.FlushCache, d.flush)
	admin.Answer(s, admin.GetLevel, func(struct{}) admin.Level { return admin.LevelOf(&d.level) })
	admin.Answer(s, admin.SetLevel, d.setLevel)
	admin.Answer(s, admin.GetReport, d.getReport)
	admin.Answer(s, admin.ListPromises, d.listPromises)
	admin.Handle(s, admin.GetPromise, d.getPromise)
	admin.Answer(s, admin.ForgetPromise, d.forgetPromise)
	admin.Evaluate(s, admin.Warm, d.warm)
	admin.Evaluate(s, admin.Explain, func(ctx context.Context, n admin.Nexthop) explain.Result {
		return d.explain(ctx, n.Nexthop)
	})
	admin.Handle(s, admin.DoReload, func(context.Context, struct{}) (status.Reload, *admin.RefusedError) {
		reload, err := d.Reload()
		if err != nil {
			return reload, &admin.RefusedError{Code: http.StatusUnprocessableEntity, Message: err.Error()}
		}
		return reload, nil
	})
	s.AddQuestions(d.deliver, d.explain)
	return s
}

// explain evaluates a next hop with what the daemon knows. Of an e-mail address it evaluates the domain, so that no
// local part is shown.
func (d *Daemon) explain(ctx context.Context, nexthop string) explain.Result {
	return explain.Nexthop(ctx, &d.engine, admin.DomainOf(nexthop), d.loaded.Load().Lookup().Policy)
}

func (d *Daemon) setLevel(wanted admin.Level) admin.Level {
	before := admin.LevelOf(&d.level)
	_ = d.level.UnmarshalText([]byte(wanted.Level)) // checked
	d.log.Warn("log level changed by the operator", "before", before.Level, "now", wanted.Level)
	return wanted
}

// Status returns how the daemon is doing.
func (d *Daemon) Status() status.Status {
	l, server := d.loaded.Load(), d.server.Stats()
	st := status.Status{
		Version: d.options.Version, Go: runtime.Version(), PID: os.Getpid(),
		Started: d.started, Uptime: int64(time.Since(d.started) / time.Second), LogLevel: admin.LevelOf(&d.level).Level,
		Settings: status.Settings{Mode: l.Mode, Changed: l.Redacted().Changed(), Overrides: len(l.Rules)},
		Reload:   d.last.Load(),
		Resolver: d.stub.State(), Lookups: d.service.Stats(), Cache: d.cache.Stats(), Promises: d.promiseStatus(),
		Connections: status.Connections{
			Listeners: append([]string{}, d.Listening()...), Open: server.Open, Total: server.Accepted,
			Max: l.Limits(d.maxConnections).MaxConnections,
			Dropped: map[string]uint64{
				"evicted": server.Evicted, "refused": server.Refused, "idle": server.Idle, "stalled": server.Stalled,
			},
			Errors: map[string]uint64{
				"malformed": server.Malformed, "stalled": server.Stalled, "write": server.WriteErrors,
				"accept": server.AcceptErrors, "unknown-map": d.service.Stats().UnknownMaps,
			},
			UnknownMaps: d.service.UnknownMaps(),
		},
	}
	if l.Found {
		st.Settings.File, _ = filepath.Abs(l.Path)
	}
	st.Settings.All, _ = json.Marshal(l.Redacted()) // strings, numbers and lists do not fail
	st.Lookups.Panics += server.Panics
	if l.Policy.MTASTS {
		st.MTASTS = new(d.store.Stats())
	}
	if l.Port26.Mode == string(policy.PortProbe) {
		st.Probes = new(d.prober.Stats())
	}
	if d.fleet != nil {
		st.Fleet = new(d.fleet.Stats())
	}
	st.Warnings = append(append(st.Warn(), d.socketWarnings()...), l.Warnings...)
	return st
}

// listCache shows what the cache has.
func (d *Daemon) listCache(f admin.Filter) (list admin.CacheList) {
	list.Entries, list.More = atMost(f.Limit, d.cache.List(dns.Matching(f.Match), f.Limit+1))
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
	entries := d.cache.List(dns.Within(names...), 0)
	place := func(e dnscache.Entry) int {
		return slices.IndexFunc(names, func(name string) bool { return dns.Within(name)(e.Name) })
	}
	slices.SortStableFunc(entries, func(a, b dnscache.Entry) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(len(a.Name), len(b.Name)))
	})
	known := status.Domain{Domain: q.Domain, Cache: entries, Probes: d.probesOf(names)}
	if e, ok := d.store.Get(q.Domain); ok {
		known.MTASTS = &e
	}
	return known
}

// namesOf returns a domain and its MX hosts, as far as the cache has them. TLSA records that are looked up at the end
// of a CNAME chain (RFC 7672 section 2.2.2) are below _tcp there.
func (d *Daemon) namesOf(domain string) []string {
	names := []string{domain}
	for _, e := range d.cache.List(dns.Within(domain), 0) {
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
	for _, host := range names {
		for _, t := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
			q, onlyCached := dns.Question{Name: host, Type: t}, dns.Effort{CacheOnly: true, Untrusted: true}
			if r, err := d.cache.Lookup(context.Background(), q, onlyCached); err == nil && r.Owner != r.Name {
				names = append(names, "_tcp."+r.Owner)
			}
		}
	}
	return names
}

// flush forgets, so that the next lookup asks again. The verdicts of probes stay: the prober knows when to look again.
func (d *Daemon) flush(f admin.FlushRequest) (flushed admin.Flushed) {
	what, match := f.Domain, dns.Within(d.namesOf(f.Domain)...)
	if f.All {
		what, match = "everything", dns.Matching("")
	}
	flushed.Cache = d.cache.Flush(match)
	if f.STS {
		d.unshare(fleet.Policy, f.Domain)
		if d.store.Flush(f.Domain) {
			flushed.Policies = 1 // this may also be a remembered failure
		}
	}
	d.log.Info("cache flushed by the operator", "what", what, "sts", f.STS, "entries", flushed.Cache, "policies",
		flushed.Policies)
	return flushed
}

// probesOf returns the verdicts about the hosts that promise implicit TLS. It starts no probe.
func (d *Daemon) probesOf(hosts []string) []probe.Entry {
	probes := []probe.Entry{}
	for _, host := range slices.Sorted(slices.Values(hosts)) {
		if prefix.Of(host).ImplicitTLS() {
			probes = append(probes, d.prober.Get(host))
		}
	}
	return probes
}
