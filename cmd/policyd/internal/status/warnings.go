package status

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/stub"
)

// Warn returns the problems that need the operator, most important first. If the log has a message for the same
// condition, the warning has the same words. The daemon adds the warnings about settings.
func (st *Status) Warn() []string {
	w := []string{}
	add := func(yes bool, format string, args ...any) {
		if yes {
			w = append(w, fmt.Sprintf(format, args...))
		}
	}
	r, c := st.Resolver, st.Cache
	asks := st.Settings.Mode != "off" // otherwise no query is sent, not even by a self-test
	add(asks && !r.FailingSince.IsZero(), "no DNS server has answered since %s; lookups fail and mail waits: %s",
		clock(r.FailingSince), r.FailingReason)
	add(asks && r.Result == stub.Unknown,
		"the self-test of the resolver has no result; lookups fail until it has one: %s", r.Reason)
	add(asks && r.Result == stub.NotTrusted,
		"the DNS servers are not trusted; treating all answers as insecure: %s", r.Reason)
	add(asks && (r.Result == stub.EchoesAD || r.Result == stub.NotValidating),
		"resolver failed its self-test; treating all answers as insecure: %s: %s", r.Result, r.Reason)
	if last := st.Reload; last != nil {
		add(!last.OK, "last reload failed; keeping the previous settings: %s", last.Error)
		add(len(last.Restart) > 0, "changed settings take effect after a restart only: %s",
			strings.Join(last.Restart, ", "))
	}
	add(st.Lookups.Panics > 0, "panic in %d lookups: please report the log lines", st.Lookups.Panics)
	for _, m := range st.Connections.UnknownMaps {
		add(true, "a client asks for the unknown map %q (requests: %d, last at %s); its mail waits: use %s in main.cf",
			m.Name, m.Times, clock(m.Last), cmp.Or(m.Nearest, "tls-policy, tls-policy-tlsrpt or transport"))
	}
	full := c.Entries >= c.MaxEntries/10*9
	add(c.Evicted > 0 && full, "cache full; %d entries evicted; raise cache.max_entries", c.Evicted)
	add(c.Evicted > 0 && !full && c.Bytes >= c.MaxBytes/10*9, "cache memory exhausted; %d entries evicted; raise the "+
		"memory limit of the process, or cache.max_entries if there is none", c.Evicted)
	add(st.Probes != nil && st.Probes.EgressFiltered,
		"outbound port of implicit TLS appears to be blocked; all mail uses port 25 under its TLS policy")
	if m := st.MTASTS; m != nil {
		add(!m.Blocked.IsZero(), "no MTA-STS policy can be fetched from this host; failing since %s: check "+
			"outbound port 443, the root certificates and mta_sts.proxy_from_environment", clock(m.Blocked))
		add(!m.Persistent, "MTA-STS policies are not saved and are lost at a restart; check cache.state_dir")
	}
	st.warnPromises(add)
	dropped := st.Connections.Dropped["evicted"] + st.Connections.Dropped["refused"]
	// When no connection can be accepted, others are closed to make room too, and are not counted separately.
	lacking := st.Connections.Errors["accept"] > 0
	add(dropped > 0 && !lacking, "connection limit reached; %d connections closed because of server.max_connections",
		dropped)
	add(dropped > 0 && lacking, "connection limit reached or cannot accept connections; %d connections closed because "+
		"of server.max_connections or a lack of file descriptors", dropped)
	return w
}

// clock formats t, with the date if it is more than 12 hours ago.
func clock(t time.Time) string {
	if time.Since(t) < 12*time.Hour {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
