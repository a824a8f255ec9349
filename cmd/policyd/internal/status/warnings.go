package status

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Warn returns what an operator should look at, the worst first. What the settings themselves give rise to is not among
// it: the daemon adds that.
func (st *Status) Warn() []string {
	w := []string{}
	add := func(yes bool, format string, args ...any) {
		if yes {
			w = append(w, fmt.Sprintf(format, args...))
		}
	}
	r, c := st.Resolver, st.Cache
	asks := st.Settings.Mode != "off" // otherwise there is no self-test, and nothing that could be weak
	untested := r.SelfTest == "unknown"
	does := strings.Replace("is "+r.SelfTest, "is echoes", "echoes", 1)
	add(asks && !r.FailingSince.IsZero(), "no DNS server has answered since %s; lookups fail and mail waits: %s",
		clock(r.FailingSince), r.FailingReason)
	add(asks && untested, "resolver self-test has no result yet; lookups fail and mail waits: %s", r.Reason)
	add(asks && !untested && !r.Validating, "treating all answers as insecure, because the resolver %s: %s",
		does, r.Reason)
	if last := st.Reload; last != nil {
		add(!last.OK, "last reload failed; keeping the previous settings: %s", last.Error)
		add(len(last.Restart) > 0, "changed settings take effect after a restart: %s", strings.Join(last.Restart, ", "))
	}
	add(st.Lookups.Panics > 0, "%d lookups ended in an internal error; please report the log lines", st.Lookups.Panics)
	for _, m := range st.Connections.UnknownMaps {
		add(true, "a client asks for the unknown map %q (requests: %d, last at %s); its mail waits: use %s in main.cf",
			m.Name, m.Times, clock(m.Last), cmp.Or(m.Nearest, "tls-policy, tls-policy-tlsrpt or transport"))
	}
	full := c.Entries >= c.MaxEntries/10*9
	add(c.Evicted > 0 && full, "cache full; %d entries evicted; raise cache.max_entries", c.Evicted)
	add(c.Evicted > 0 && !full && c.Bytes >= c.MaxBytes/10*9, "cache memory exhausted; %d entries evicted; raise the "+
		"memory limit of the process, or cache.max_entries if there is none", c.Evicted)
	add(st.Probes != nil && st.Probes.EgressFiltered,
		"outbound port for implicit TLS appears to be blocked; all mail uses port 25")
	if m := st.MTASTS; m != nil {
		add(!m.Blocked.IsZero(), "no MTA-STS policy can be fetched from this host; failing since %s: check "+
			"outbound port 443, the root certificates and mta_sts.proxy_from_environment", clock(m.Blocked))
		add(!m.Persistent, "MTA-STS policies are not saved and are lost at a restart; check cache.state_dir")
	}
	st.warnPromises(add)
	dropped := st.Connections.Dropped["evicted"] + st.Connections.Dropped["refused"]
	why := "server.max_connections"
	if st.Connections.Errors["accept"] > 0 { // connections are dropped to make room then too, and are not counted apart
		why += " or a lack of file descriptors"
	}
	add(dropped > 0, "%d connections closed because of %s", dropped, why)
	return w
}

// clock is a time as the clock on the wall has it, with the date if that is not plain.
func clock(t time.Time) string {
	if time.Since(t) < 12*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
