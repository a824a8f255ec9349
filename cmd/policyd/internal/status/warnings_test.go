package status

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		change func(*Status)
		want   string
	}{
		"the self-test has no result": {
			func(st *Status) {
				st.Resolver = stub.State{Outcome: stub.Outcome{Reason: "timed out"}}
			},
			"the self-test of the resolver has no result; lookups fail until it has one: timed out",
		},
		"the resolver is not trusted": {
			func(st *Status) {
				st.Resolver = stub.State{Outcome: stub.Outcome{Result: stub.NotTrusted, Reason: "127.0.0.53 is a relay"}}
			},
			"the DNS servers are not trusted; treating all answers as insecure: 127.0.0.53 is a relay",
		},
		"the resolver does not validate": {
			func(st *Status) {
				st.Resolver = stub.State{Outcome: stub.Outcome{Result: stub.NotValidating, Reason: "no AD bit"}}
			},
			"resolver failed its self-test; treating all answers as insecure: not validating: no AD bit",
		},
		"the resolver sets the AD bit for everything": {
			func(st *Status) {
				st.Resolver = stub.State{Outcome: stub.Outcome{Result: stub.EchoesAD, Reason: "it copies the bit"}}
			},
			"resolver failed its self-test; treating all answers as insecure: echoes AD: it copies the bit",
		},
		"no DNS server answers": {
			func(st *Status) {
				st.Resolver.FailingSince, st.Resolver.FailingReason = now, "127.0.0.1:53: connection refused"
			},
			"no DNS server has answered since " + now.Format("15:04:05") + "; lookups fail and mail waits: 127.0.0.1:53: connection refused",
		},
		"no DNS server has answered for days": {
			func(st *Status) {
				st.Resolver.FailingSince, st.Resolver.FailingReason = now.AddDate(0, 0, -3), "127.0.0.1:53: SERVFAIL"
			},
			"no DNS server has answered since " + now.AddDate(0, 0, -3).Format("2006-01-02 15:04:05") + "; lookups fail and mail waits: 127.0.0.1:53: SERVFAIL",
		},
		"a refused reload": {
			func(st *Status) { st.Reload = &Reload{At: time.Unix(1, 0), Error: "line 3"} },
			"last reload failed; keeping the previous settings: line 3",
		},
		"a reload that needs a restart": {
			func(st *Status) {
				st.Reload = &Reload{At: time.Unix(1, 0), OK: true, Restart: []string{"admin.socket", "server.listen"}}
			},
			"changed settings take effect after a restart only: admin.socket, server.listen",
		},
		"panics": {
			func(st *Status) { st.Lookups.Panics = 2 },
			"panic in 2 lookups: please report the log lines",
		},
		"an unknown map": {
			func(st *Status) {
				st.Connections.UnknownMaps = []lookup.UnknownMap{{Name: "tls_policy", Nearest: "tls-policy", Times: 3, Last: now}}
			},
			`a client asks for the unknown map "tls_policy" (requests: 3, last at ` + now.Format(time.TimeOnly) + `); its mail waits: use tls-policy in main.cf`,
		},
		"an unknown map that resembles none": {
			func(st *Status) {
				st.Connections.UnknownMaps = []lookup.UnknownMap{{Name: "virtual", Times: 1, Last: now}}
			},
			`a client asks for the unknown map "virtual" (requests: 1, last at ` + now.Format(time.TimeOnly) + `); its mail waits: use tls-policy, tls-policy-tlsrpt or transport in main.cf`,
		},
		"a full cache": {
			func(st *Status) { st.Cache = dnscache.Stats{Entries: 960, MaxEntries: 1000, Evicted: 7} },
			"cache full; 7 entries evicted; raise cache.max_entries",
		},
		"a cache without memory": {
			func(st *Status) {
				st.Cache = dnscache.Stats{Entries: 600, MaxEntries: 1000, Bytes: 95, MaxBytes: 100, Evicted: 7}
			},
			"cache memory exhausted; 7 entries evicted; raise the memory limit of the process, or cache.max_entries if there is none",
		},
		"egress": {
			func(st *Status) { st.Probes = &probe.Stats{EgressFiltered: true} },
			"outbound port of implicit TLS appears to be blocked; all mail uses port 25 under its TLS policy",
		},
		"policies that are lost": {
			func(st *Status) { st.MTASTS = &stsstore.Stats{} },
			"MTA-STS policies are not saved and are lost at a restart; check cache.state_dir",
		},
		"vanished promises": {
			func(st *Status) {
				st.Promises = &PromiseStatus{Stats: promises.Stats{Missing: 3, Held: 1}, Domains: []string{"a.example", "b.example"}}
			},
			"promises vanished from unsigned answers (domains: 3, mail held: 1), for example of a.example, b.example: see policyd promises list --vanished",
		},
		"a fleet store that is down": {
			func(st *Status) { st.Fleet = &fleet.Stats{Error: "connection refused"} },
			"fleet store unavailable; nothing is shared, and lookups are not affected: connection refused",
		},
		"records under another site key": {
			func(st *Status) {
				st.Fleet = &fleet.Stats{Up: true, Ignored: map[fleet.Reason]uint64{fleet.MAC: 4, fleet.Stale: 9}}
			},
			"fleet records ignored because of their MAC: 4; compare fleet.key_file on all nodes",
		},
		"dropped connections": {
			func(st *Status) { st.Connections.Dropped = map[string]uint64{"evicted": 3, "refused": 1, "idle": 9} },
			"connection limit reached; 4 connections closed because of server.max_connections",
		},
		"connections dropped for want of descriptors": {
			func(st *Status) {
				st.Connections.Dropped = map[string]uint64{"evicted": 3}
				st.Connections.Errors = map[string]uint64{"accept": 1}
			},
			"connection limit reached or cannot accept connections; 3 connections closed because of server.max_connections or a lack of file descriptors",
		},
	} {
		st := Status{Resolver: stub.State{Outcome: stub.Outcome{Result: stub.Validating}}, MTASTS: &stsstore.Stats{Persistent: true}}
		require.Equal(t, []string{}, st.Warn(), "a sound daemon")
		c.change(&st)
		require.Equal(t, []string{c.want}, st.Warn(), name)
	}
}

func TestAResolverThatIsNotAsked(t *testing.T) {
	t.Parallel()
	st := Status{Settings: Settings{Mode: "off"}, Resolver: stub.State{FailingSince: time.Now()}}
	require.Empty(t, st.Warn())
}
