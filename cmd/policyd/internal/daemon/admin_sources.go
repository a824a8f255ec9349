package daemon

import (
	"slices"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
)

// mtastsStatus is how the store of MTA-STS policies is doing; nil: MTA-STS is switched off.
func (d *Daemon) mtastsStatus() *admin.MTASTS {
	if !d.loaded.Load().PolicyOptions().MTASTS {
		return nil
	}
	st := d.store.Stats()
	return &admin.MTASTS{
		Policies: st.Policies, Kept: st.Persistent, BlockedSince: st.Blocked,
		Fetches: map[string]uint64{"ok": st.Fetched, "failed": st.Failed},
	}
}

// storedPolicy is what the store has for a domain; nil: nothing.
func (d *Daemon) storedPolicy(domain string) *admin.StoredPolicy {
	e, ok := d.store.Get(domain)
	if !ok {
		return nil
	}
	return &admin.StoredPolicy{
		Mode: string(e.Policy.Policy.Mode), ID: e.Policy.ID, MX: e.Policy.Policy.MX,
		Fetched: e.Policy.Fetched, Expires: e.Policy.Expires, Failure: e.Reason, Retry: e.Retry,
	}
}

// probeStatus is what the prober knows; nil: nothing is probed.
func (d *Daemon) probeStatus() *admin.Probes {
	if d.loaded.Load().PolicyOptions().Port26 != policy.PortProbe {
		return nil
	}
	st := d.prober.Stats()
	count := func(n int) uint64 { return uint64(max(n, 0)) }
	results := map[string]uint64{}
	for result, n := range st.Results {
		results[strings.ReplaceAll(result, " ", "-")] = n
	}
	return &admin.Probes{
		Hosts: map[string]uint64{"open": count(st.Open), "closed": count(st.Closed),
			"unknown": count(st.Unknown)},
		EgressFiltered: st.EgressFiltered, Results: results,
	}
}

// probesOf are the verdicts on those of the hosts that promise implicit TLS. Nothing is probed for being shown.
func (d *Daemon) probesOf(hosts []string) []admin.Probe {
	probes := []admin.Probe{}
	for _, host := range slices.Compact(slices.Sorted(slices.Values(hosts))) {
		if prefix.Of(host).ImplicitTLS() {
			v := d.prober.Verdict(host)
			probes = append(probes, admin.Probe{
				Host: host, State: v.State.String(), Cause: strings.ReplaceAll(string(v.Cause), " ", "-"),
				Checked: v.Checked, Expires: v.Expires, Why: v.Why,
			})
		}
	}
	return probes
}
