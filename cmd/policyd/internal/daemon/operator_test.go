package daemon

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/socketmap"
)

// operated is a lab whose daemon has an admin socket and metrics. more comes after the other settings.
func operated(t *testing.T, more string) *lab {
	t.Helper()
	l := newLab(t, "")
	l.operate(more)
	return l
}

func (l *lab) operate(more string) {
	l.t.Helper()
	text := "server.listen = [\"unix:" + l.path() + "\"]\ndns.servers = [\"" + l.dns.Addr() + "\"]\ncache.state_dir = \"\"\n" +
		"metrics.listen = \"127.0.0.1:0\"\nport26.mode = \"off\"\npolicy.mta_sts = false\npolicy.dane = false\n" + more
	if !strings.Contains(more, "admin.socket") {
		text += "\nadmin.socket = \"" + l.adminPath() + "\"\n"
	}
	require.NoError(l.t, os.WriteFile(l.config, []byte(text), 0o600))
}

func (l *lab) adminPath() string { return filepath.Join(l.dir, "admin.sock") }

// run runs a daemon that may fail before it answers lookups.
func (l *lab) run() (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.daemon.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	l.t.Cleanup(stop)
	require.Eventually(l.t, func() bool { return l.daemon.Listening() != nil }, testTimeout, time.Millisecond, "%s", l.log)
	return stop
}

func TestStatusOfADaemon(t *testing.T) {
	t.Parallel()
	l := operated(t, "cache.max_entries = 1000\n").start()
	c := l.client()
	ask(t, c, "signed.example")
	ask(t, c, "unsigned.example")
	st, err := admin.GetStatus.Ask(t.Context(), l.adminPath(), struct{}{})
	require.NoError(t, err)
	require.Equal(t, "test", st.Version)
	require.Equal(t, os.Getpid(), st.PID)
	require.Equal(t, "info", st.LogLevel)
	require.Empty(t, st.Warnings)
	require.Equal(t, l.config, st.Settings.File)
	require.Equal(t, "enforce", st.Settings.Mode)
	require.Contains(t, st.Settings.Changed, "cache.max_entries = 1000")
	require.NotContains(t, strings.Join(st.Settings.Changed, "\n"), "mode = \"enforce\"", "that is the default")
	var all struct {
		Mode  string
		Cache struct {
			MaxEntries int `json:"max_entries"`
		}
	}
	require.NoError(t, json.Unmarshal(st.Settings.All, &all))
	require.Equal(t, "enforce", all.Mode)
	require.Equal(t, 1000, all.Cache.MaxEntries)
	require.Nil(t, st.Reload)
	require.Equal(t, []string{l.dns.Addr()}, st.Resolver.Servers)
	require.True(t, st.Resolver.Trusted)
	require.True(t, st.Resolver.Validating)
	require.Equal(t, "validating", st.Resolver.SelfTest)
	require.Equal(t, uint64(2), st.Lookups.Replies["tls-policy"]["OK"])
	require.Equal(t, uint64(1), st.Lookups.Unsigned)
	require.Equal(t, 2, st.Cache.Entries)
	require.Equal(t, 1000, st.Cache.MaxEntries)
	require.Positive(t, st.Cache.Bytes)
	require.Equal(t, map[string]uint64{"secure": 1, "insecure": 1, "bogus": 0, "failed": 0}, st.Cache.Answers)
	require.Equal(t, []string{"unix:" + l.path()}, st.Connections.Listeners)
	require.Equal(t, 1, st.Connections.Open)
	require.Equal(t, 4096, st.Connections.Max)
}

func TestStatusNamesUnknownMaps(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"enforce", "report", "off"} {
		l := operated(t, "mode = \""+mode+"\"\n").start()
		c := l.client()
		for _, name := range []string{"tls_policy", "tls_policy", "virtual"} {
			r, err := c.Lookup(t.Context(), socketmap.Request{Map: name, Key: "signed.example"})
			require.NoError(t, err)
			require.Equal(t, socketmap.StatusPerm, r.Status)
			require.Contains(t, r.Text, "tls-policy, tls-policy-tlsrpt, transport")
		}
		st, err := admin.GetStatus.Ask(t.Context(), l.adminPath(), struct{}{})
		require.NoError(t, err)
		require.Len(t, st.Connections.UnknownMaps, 2)
		require.Equal(t, "tls-policy", st.Connections.UnknownMaps[0].Nearest)
		require.Contains(t, strings.Join(st.Warnings, "\n"), `unknown map "tls_policy" (requests: 2,`)
		require.Contains(t, strings.Join(st.Warnings, "\n"), `unknown map "virtual" (requests: 1,`)
		require.Equal(t, 1, strings.Count(l.log.String(), `msg="unknown map" map=tls_policy nearest=tls-policy`), l.log)
	}
}

// The status reports a dead DNS server while it is dead; otherwise only counters would show it.
func TestStatusReportsThatNoDNSServerAnswers(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	c, op := l.client(), l.adminPath()
	ask(t, c, "signed.example")
	began := time.Now()
	require.NoError(t, l.dns.Close())
	require.Contains(t, ask(t, c, "other.example"), "TEMP")
	var st status.Status
	require.Eventually(t, func() bool {
		var err error
		st, err = admin.GetStatus.Ask(t.Context(), op, struct{}{})
		return err == nil && len(st.Warnings) > 0
	}, testTimeout, 100*time.Millisecond)
	require.WithinRange(t, st.Resolver.FailingSince, began, time.Now())
	// On a busy machine another process may have taken the port by then.
	require.Contains(t, []string{l.dns.Addr() + ": connection refused", l.dns.Addr() + ": timed out"}, st.Resolver.FailingReason)
	require.Equal(t, []string{
		"no DNS server has answered since " + st.Resolver.FailingSince.Format(time.TimeOnly) + "; lookups fail and mail waits: " + st.Resolver.FailingReason,
	}, st.Warnings)
}

func TestFlushMakesTheCacheAskAgain(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	c, op := l.client(), l.adminPath()
	ask(t, c, "signed.example")
	ask(t, c, "unsigned.example")
	list, err := admin.ListCache.Ask(t.Context(), op, admin.Filter{})
	require.NoError(t, err)
	require.Len(t, list.Entries, 2)
	require.False(t, list.More)
	require.Equal(t, "signed.example", list.Entries[0].Name)
	require.Equal(t, []string{"10 starttls-a.signed.example"}, list.Entries[0].Data)
	list, err = admin.ListCache.Ask(t.Context(), op, admin.Filter{Limit: 1})
	require.NoError(t, err)
	require.Len(t, list.Entries, 1)
	require.True(t, list.More)
	list, err = admin.ListCache.Ask(t.Context(), op, admin.Filter{Match: "un"})
	require.NoError(t, err)
	require.Len(t, list.Entries, 1)

	known, err := admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: "signed.example"})
	require.NoError(t, err)
	require.Len(t, known.Cache, 1)
	require.Equal(t, dns.Secure, known.Cache[0].Status)
	flushed, err := admin.FlushCache.Ask(t.Context(), op, admin.FlushRequest{Domain: "SIGNED.example."})
	require.NoError(t, err)
	require.Equal(t, admin.Flushed{Cache: 1}, flushed)
	require.Equal(t, 1, l.dns.Asked("signed.example", dns.TypeMX))
	ask(t, c, "signed.example")
	ask(t, c, "unsigned.example")
	require.Equal(t, 2, l.dns.Asked("signed.example", dns.TypeMX))
	require.Equal(t, 1, l.dns.Asked("unsigned.example", dns.TypeMX))
	flushed, err = admin.FlushCache.Ask(t.Context(), op, admin.FlushRequest{All: true})
	require.NoError(t, err)
	require.Equal(t, admin.Flushed{Cache: 2}, flushed)
	require.Contains(t, l.log.String(), "cache flushed by the operator")
}

// A domain is shown and flushed with its MX hosts, wherever they are, and with the TLSA records of their aliases.
func TestADomainIsShownWithItsHosts(t *testing.T) {
	t.Parallel()
	l := operated(t, "policy.dane = true\n")
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.config, []byte(strings.Replace(string(text), "policy.dane = false\n", "", 1)), 0o600))
	l.start()
	l.dns.Set("hosted.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 starttls-mx.provider.example."}})
	l.dns.Set("starttls-mx.provider.example", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 192.0.2.1"}})
	ask(t, l.client(), "hosted.example")
	var names []string
	require.Eventually(t, func() bool { // the answer may be given before the AAAA lookup has ended
		known, err := admin.GetDomain.Ask(t.Context(), l.adminPath(), admin.DomainRequest{Domain: "hosted.example"})
		names = nil
		for _, e := range known.Cache {
			names = append(names, e.Name+" "+e.Type.String())
		}
		return err == nil && len(names) == 4
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{
		"hosted.example MX", "starttls-mx.provider.example A", "starttls-mx.provider.example AAAA",
		"_25._tcp.starttls-mx.provider.example TLSA",
	}, names)
	flushed, err := admin.FlushCache.Ask(t.Context(), l.adminPath(), admin.FlushRequest{Domain: "hosted.example"})
	require.NoError(t, err)
	require.Equal(t, 4, flushed.Cache)
}

func TestADomainIsShownWithTheTLSARecordsOfAliases(t *testing.T) {
	t.Parallel()
	l := operated(t, "policy.dane = true\n")
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.config, []byte(strings.Replace(string(text), "policy.dane = false\n", "", 1)), 0o600))
	l.start()
	l.dns.Set("aliased.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 mx.aliased.example."}})
	l.dns.Set("mx.aliased.example", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{
		"CNAME smtps-mx.provider.example.", "=smtps-mx.provider.example. A 192.0.2.1",
	}})
	ask(t, l.client(), "aliased.example")
	known, err := admin.GetDomain.Ask(t.Context(), l.adminPath(), admin.DomainRequest{Domain: "aliased.example"})
	require.NoError(t, err)
	var names []string
	for _, e := range known.Cache {
		names = append(names, e.Name+" "+e.Type.String())
	}
	require.Contains(t, names, "_25._tcp.smtps-mx.provider.example TLSA")
	require.Empty(t, known.Probes, "the end of the chain is not an MX host")
	_, err = admin.FlushCache.Ask(t.Context(), l.adminPath(), admin.FlushRequest{Domain: "aliased.example"})
	require.NoError(t, err)
	list, err := admin.ListCache.Ask(t.Context(), l.adminPath(), admin.Filter{})
	require.NoError(t, err)
	require.Empty(t, list.Entries)
}

func TestLiveQueryUsesTheCacheOfTheDaemon(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	ask(t, l.client(), "signed.example")
	e, err := admin.Explain.Ask(t.Context(), l.adminPath(), admin.Nexthop{Nexthop: "jane.doe@signed.example"})
	require.NoError(t, err)
	require.Equal(t, "signed.example", e.Nexthop)
	require.Equal(t, "prefix", e.Source)
	require.Equal(t, 1, l.dns.Asked("signed.example", dns.TypeMX))
}

func TestReloadAndLevelOverTheSocket(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	op := l.adminPath()
	l.operate("mode = \"reprt\"\n")
	_, err := admin.DoReload.Ask(t.Context(), op, struct{}{})
	var refused *admin.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusUnprocessableEntity, refused.Code)
	require.Contains(t, refused.Message,
		`mode: "reprt" is not valid: write "enforce", "report" or "off"; did you mean "report"?`, "with the setting")
	st, err := admin.GetStatus.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.Equal(t, "enforce", st.Settings.Mode)
	require.False(t, st.Reload.OK)
	require.Contains(t, st.Warnings[0], "last reload failed; keeping the previous settings: ")
	_, text := l.get("/metrics")
	require.Contains(t, text, "policyd_config_reload_success 0\n")

	level, err := admin.SetLevel.Ask(t.Context(), op, admin.Level{Level: "debug"})
	require.NoError(t, err)
	require.Equal(t, "debug", level.Level)
	require.Equal(t, slog.LevelDebug, l.daemon.level.Level())
	require.Contains(t, l.log.String(), `msg="log level changed by the operator" before=info now=debug`)
	l.operate("mode = \"report\"\nserver.socket_mode = \"0666\"\n")
	r, err := admin.DoReload.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.True(t, r.OK)
	require.Equal(t, []string{"server.socket_mode"}, r.Restart)
	level, err = admin.GetLevel.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.Equal(t, "info", level.Level, "that of the settings again")
	st, err = admin.GetStatus.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.Equal(t, "report", st.Settings.Mode)
	require.Equal(t, []string{"changed settings take effect after a restart only: server.socket_mode"}, st.Warnings)
}

// A lookup for another mail server counts like one for Postfix, and the local part is dropped.
func TestOtherMailServersAskOverTCP(t *testing.T) {
	t.Parallel()
	l := operated(t, "http.listen = \"127.0.0.1:0\"\nlog.lookups = \"all\"\n").start()
	code, text := l.getFrom("http", "/v1/policy?domain=jane.doe%40signed.example")
	require.Equal(t, http.StatusOK, code)
	var p explain.Policy
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	require.Equal(t, explain.Policy{
		Nexthop: "signed.example", DNSSEC: "secure", Source: "prefix", Why: p.Why,
		TLSPolicy:      socketmap.Reply{Status: socketmap.StatusOK, Text: strings.TrimPrefix(signedPolicy, "OK ")},
		WouldTLSPolicy: socketmap.Reply{Status: socketmap.StatusOK, Text: strings.TrimPrefix(signedPolicy, "OK ")},
	}, p)
	code, text = l.getFrom("http", "/v1/route?domain=signed.example")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, `"transport":{"status":"NOTFOUND","text":""}`)
	require.Equal(t, 1, l.dns.Asked("signed.example", dns.TypeMX))
	st, err := admin.GetStatus.Ask(t.Context(), l.adminPath(), struct{}{})
	require.NoError(t, err)
	require.Equal(t, uint64(1), st.Lookups.Replies["tls-policy"]["OK"])
	r, err := admin.GetReport.Ask(t.Context(), l.adminPath(), admin.ReportRequest{Since: time.Time{}})
	require.NoError(t, err)
	require.Equal(t, 1, r.Nexthops)
	require.NotContains(t, l.log.String(), "jane")
	code, _ = l.getFrom("http", "/v1/status")
	require.Equal(t, http.StatusNotFound, code)
}

// No request that changes the daemon is served on the listeners for Postfix and Prometheus.
func TestOnlyTheAdminSocketChangesAnything(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	for _, path := range []string{"/v1/status", "/v1/cache", "/v1/reload", "/v1/cache/flush", "/v1/log-level"} {
		code, _ := l.get(path)
		require.Equal(t, http.StatusNotFound, code, path)
	}
	c := l.client()
	for _, name := range []string{"reload", "flush", "cache", "status", "log-level", "admin"} {
		r, err := c.Lookup(t.Context(), socketmap.Request{Map: name, Key: "all"})
		require.NoError(t, err)
		require.Equal(t, socketmap.StatusPerm, r.Status, name)
	}
	conn, err := net.Dial("unix", l.path())
	require.NoError(t, err)
	_, err = io.WriteString(conn, "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Empty(t, answer, "HTTP is not a netstring")
	require.NoError(t, conn.Close())
	require.Nil(t, l.daemon.last.Load())
}
