package admin

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// warn returns what an operator should look at, the worst first. What the settings themselves give rise to is not among
// it: the daemon adds that.
func (st *Status) warn() []string {
	w := []string{}
	add := func(yes bool, text string) {
		if yes {
			w = append(w, text)
		}
	}
	r := st.Resolver
	does := "is " + r.SelfTest
	if r.SelfTest == "echoes AD" {
		does = r.SelfTest
	}
	asks := st.Settings.Mode != "off" // otherwise there is no self-test, and nothing that could be weak
	add(asks && !r.FailingSince.IsZero(), "no DNS server has answered since "+clock(r.FailingSince)+
		"; lookups fail and mail waits: "+r.FailingReason)
	add(asks && r.SelfTest == "unknown", "resolver self-test has no result yet; lookups fail and mail waits: "+r.Reason)
	add(asks && r.SelfTest != "unknown" && !r.Validating, "treating all answers as insecure, because the resolver "+
		does+": "+r.Reason)
	if last := st.Reload; last != nil {
		add(!last.OK, "last reload failed; keeping the previous settings: "+last.Error)
		add(len(last.Restart) > 0, "changed settings take effect after a restart: "+strings.Join(last.Restart, ", "))
	}
	add(st.Lookups.Panics > 0, fmt.Sprintf("%d lookups ended in an internal error; please report the log lines",
		st.Lookups.Panics))
	for _, m := range st.Connections.UnknownMaps {
		use := cmp.Or(m.Nearest, "tls-policy, tls-policy-tlsrpt or transport")
		add(true, fmt.Sprintf(
			"a client asks for the unknown map %q (requests: %d, last at %s); its mail waits: use %s in main.cf",
			m.Name, m.Times, clock(m.Last), use))
	}
	c := st.Cache
	full := c.Entries >= c.MaxEntries/10*9
	add(c.Evicted > 0 && full, fmt.Sprintf("cache full; %d entries evicted; raise cache.max_entries", c.Evicted))
	add(c.Evicted > 0 && !full && c.Bytes >= c.MaxBytes/10*9,
		fmt.Sprintf(
			"cache memory exhausted; %d entries evicted; raise the memory limit of the process, or "+
				"cache.max_entries if there is none", c.Evicted))
	add(st.Probes != nil && st.Probes.EgressFiltered,
		"outbound port for implicit TLS appears to be blocked; all mail uses port 25")
	if st.MTASTS != nil && !st.MTASTS.BlockedSince.IsZero() {
		add(true, "no MTA-STS policy can be fetched from this host since "+clock(st.MTASTS.BlockedSince)+
			": check outbound port 443, the root certificates and mta_sts.proxy_from_environment")
	}
	add(st.MTASTS != nil && !st.MTASTS.Kept,
		"MTA-STS policies are not saved and are lost at a restart; check cache.state_dir")
	if p := st.Promises; p != nil && p.Missing > 0 {
		add(true, fmt.Sprintf(
			"promises vanished (domains: %d, mail held: %d), for example of %s: see policyd promises list --vanished",
			p.Missing, p.Held, strings.Join(p.Domains, ", ")))
	}
	if f := st.Fleet; f != nil {
		add(!f.Up, "fleet store unavailable; nothing is shared, and lookups are not affected: "+f.Error)
		add(f.Ignored["mac"] > 0, fmt.Sprintf(
			"fleet records ignored because of their MAC: %d; compare fleet.key_file on all nodes", f.Ignored["mac"]))
	}
	dropped := st.Connections.Dropped["evicted"] + st.Connections.Dropped["refused"]
	why := "server.max_connections"
	if st.Connections.Errors["accept"] > 0 { // connections are dropped to make room then too, and are not counted apart
		why += " or a lack of file descriptors"
	}
	add(dropped > 0, fmt.Sprintf("%d connections closed because of %s", dropped, why))
	return w
}

// clock is a time as the clock on the wall has it, with the date if that is not plain.
func clock(t time.Time) string {
	const plain = 12 * time.Hour
	if time.Since(t) < plain {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
