package daemon

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/internal/resolver/resolvertest"
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

func (l *lab) operator() *admin.Client {
	c := admin.NewClient(l.adminPath())
	l.t.Cleanup(c.Close)
	return c
}

// run runs a daemon that may not get so far as to answer lookups.
func (l *lab) run() (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.daemon.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	l.t.Cleanup(stop)
	require.Eventually(l.t, func() bool { return l.daemon.Listening() != nil }, patience, time.Millisecond, "%s", l.log)
	return stop
}

// get asks the metrics listener, which the log names.
func (l *lab) get(path string) (code int, body string) {
	l.t.Helper()
	address := regexp.MustCompile(`msg=metrics listener=(\S+)`).FindStringSubmatch(l.log.String())
	require.NotNil(l.t, address, l.log)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://" + address[1] + path)
	require.NoError(l.t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(l.t, err)
	require.NoError(l.t, resp.Body.Close())
	return resp.StatusCode, string(text)
}

func TestMetricsOfRealLookups(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	l.dns.Set("bogus.example", resolver.TypeMX, resolvertest.Answer{Rcode: "SERVFAIL", EDE: 6})
	c := l.client()
	for range 3 {
		require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	}
	require.Equal(t, unsignedPolicy, ask(t, c, "unsigned.example"))
	require.Contains(t, ask(t, c, "bogus.example"), "TEMP ")
	_, err := c.Lookup(t.Context(), socketmap.Request{Map: "transport", Key: "jane.doe@signed.example"})
	require.NoError(t, err)
	broken, err := net.Dial("unix", l.path())
	require.NoError(t, err)
	_, err = broken.Write([]byte("no netstring"))
	require.NoError(t, err)
	_, err = io.ReadAll(broken)
	require.NoError(t, err)
	require.NoError(t, broken.Close())

	code, text := l.get("/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, line := range []string{
		`policyd_lookups_total{map="tls-policy",result="OK"} 4`,
		`policyd_lookups_total{map="tls-policy",result="TEMP"} 1`,
		`policyd_lookups_total{map="transport",result="NOTFOUND"} 1`,
		`policyd_lookup_duration_seconds_count{cached="yes",map="tls-policy"} 2`,
		`policyd_lookup_duration_seconds_count{cached="no",map="tls-policy"} 3`,
		`policyd_decisions_total{class="secure",reason="prefix-all",source="prefix"} 4`,
		`policyd_decisions_total{class="temp",reason="mx-failed",source="none"} 1`,
		`policyd_unsigned_total 1`,
		`policyd_dns_queries_total{rcode="NOERROR",type="MX"} 2`,
		`policyd_dns_queries_total{rcode="SERVFAIL",type="MX"} 1`,
		`policyd_dns_query_duration_seconds_count{type="MX"} 3`,
		`policyd_dns_answers_total{status="secure"} 1`,
		`policyd_dns_answers_total{status="insecure"} 1`,
		`policyd_dns_answers_total{status="bogus"} 1`,
		`policyd_cache_requests_total{result="miss"} 3`,
		`policyd_cache_entries 3`,
		`policyd_resolver_validating 1`,
		`policyd_connections_total 2`,
		`policyd_protocol_errors_total{kind="malformed"} 1`,
		`policyd_config_reload_success 1`,
		`policyd_build_info{goversion="` + runtime.Version() + `",version="test"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
	require.NotContains(t, text, ".example", "no domain is a label")
	require.NotContains(t, text, "jane.doe")
}

func TestReadyWhenTheSelfTestHasAResult(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	code, body := l.get("/-/ready")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ready\n", body)

	dead := operated(t, "dns.timeout = \"10ms\"\n")
	dead.dns.SetDead(true)
	var err error
	dead.daemon, err = New(dead.options)
	require.NoError(t, err)
	dead.run()
	require.Eventually(t, func() bool { return dead.daemon.Resolver().Reason != "" }, patience, time.Millisecond)
	code, body = dead.get("/-/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "the self-test of the resolver has no result: ")
	code, _ = dead.get("/-/healthy")
	require.Equal(t, http.StatusOK, code)
	st, err := dead.operator().Status(t.Context())
	require.NoError(t, err)
	require.Contains(t, strings.Join(st.Warnings, "\n"), "the self-test of the resolver has no result")
	dead.dns.SetDead(false)
	require.Eventually(t, func() bool { code, _ := dead.get("/-/ready"); return code == http.StatusOK }, patience, 50*time.Millisecond)
}

func TestStatusOfADaemon(t *testing.T) {
	t.Parallel()
	l := operated(t, "cache.max_entries = 1000\n").start()
	c := l.client()
	ask(t, c, "signed.example")
	ask(t, c, "unsigned.example")
	st, err := l.operator().Status(t.Context())
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

func TestFlushHasTheResolverAskedAgain(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	c, op := l.client(), l.operator()
	ask(t, c, "signed.example")
	ask(t, c, "unsigned.example")
	list, err := op.List(t.Context(), admin.CacheFilter{})
	require.NoError(t, err)
	require.Len(t, list.Entries, 2)
	require.False(t, list.More)
	require.Equal(t, "signed.example", list.Entries[0].Name)
	require.Equal(t, []string{"10 starttls-a.signed.example"}, list.Entries[0].Records)
	list, err = op.List(t.Context(), admin.CacheFilter{Limit: 1})
	require.NoError(t, err)
	require.Len(t, list.Entries, 1)
	require.True(t, list.More)
	list, err = op.List(t.Context(), admin.CacheFilter{Match: "un"})
	require.NoError(t, err)
	require.Len(t, list.Entries, 1)

	known, err := op.Get(t.Context(), "signed.example")
	require.NoError(t, err)
	require.Len(t, known.Cache, 1)
	require.Equal(t, "secure", known.Cache[0].Status)
	flushed, err := op.Flush(t.Context(), admin.FlushRequest{Domain: "SIGNED.example."})
	require.NoError(t, err)
	require.Equal(t, admin.Flushed{Cache: 1}, flushed)
	require.Equal(t, 1, l.dns.Asked("signed.example", resolver.TypeMX))
	ask(t, c, "signed.example")
	ask(t, c, "unsigned.example")
	require.Equal(t, 2, l.dns.Asked("signed.example", resolver.TypeMX))
	require.Equal(t, 1, l.dns.Asked("unsigned.example", resolver.TypeMX))
	flushed, err = op.Flush(t.Context(), admin.FlushRequest{All: true})
	require.NoError(t, err)
	require.Equal(t, admin.Flushed{Cache: 2}, flushed)
	require.Contains(t, l.log.String(), "cache flushed by the operator")
}

// A domain is shown and flushed with its MX hosts, wherever they are.
func TestADomainIsShownWithItsHosts(t *testing.T) {
	t.Parallel()
	l := operated(t, "policy.dane = true\n")
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.config, []byte(strings.Replace(string(text), "policy.dane = false\n", "", 1)), 0o600))
	l.start()
	l.dns.Set("hosted.example", resolver.TypeMX, resolvertest.Answer{Secure: true, Records: []string{"MX 10 starttls-mx.provider.example."}})
	l.dns.Set("starttls-mx.provider.example", resolver.TypeA, resolvertest.Answer{Secure: true, Records: []string{"A 192.0.2.1"}})
	ask(t, l.client(), "hosted.example")
	known, err := l.operator().Get(t.Context(), "hosted.example")
	require.NoError(t, err)
	var names []string
	for _, e := range known.Cache {
		names = append(names, e.Name+" "+e.Type)
	}
	require.Equal(t, []string{
		"hosted.example MX", "starttls-mx.provider.example A", "starttls-mx.provider.example AAAA",
		"_25._tcp.starttls-mx.provider.example TLSA",
	}, names)
	flushed, err := l.operator().Flush(t.Context(), admin.FlushRequest{Domain: "hosted.example"})
	require.NoError(t, err)
	require.Equal(t, 4, flushed.Cache)
}

func TestLiveQueryUsesTheCacheOfTheDaemon(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	ask(t, l.client(), "signed.example")
	e, err := l.operator().Explain(t.Context(), "jane.doe@signed.example")
	require.NoError(t, err)
	require.Equal(t, "signed.example", e.Nexthop)
	require.Equal(t, "prefix", e.Source)
	require.Equal(t, 1, l.dns.Asked("signed.example", resolver.TypeMX))
}

func TestReloadAndLevelOverTheSocket(t *testing.T) {
	t.Parallel()
	l := operated(t, "").start()
	op := l.operator()
	l.operate("mode = \"reprt\"\n")
	_, err := op.Reload(t.Context())
	var refused *admin.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Message, "^~~~", "with the line and a caret")
	st, err := op.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "enforce", st.Settings.Mode)
	require.False(t, st.Reload.OK)
	require.Contains(t, st.Warnings[0], "the last reload was refused and the old settings are in force: ")
	_, text := l.get("/metrics")
	require.Contains(t, text, "policyd_config_reload_success 0\n")

	level, err := op.SetLevel(t.Context(), -4)
	require.NoError(t, err)
	require.Equal(t, "debug", level)
	l.operate("mode = \"report\"\nserver.socket_mode = \"0666\"\n")
	r, err := op.Reload(t.Context())
	require.NoError(t, err)
	require.True(t, r.OK)
	require.Equal(t, []string{"server.socket_mode"}, r.Restart)
	level, err = op.Level(t.Context())
	require.NoError(t, err)
	require.Equal(t, "info", level, "that of the settings again")
	st, err = op.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "report", st.Settings.Mode)
	require.Len(t, st.Warnings, 2, st.Warnings)
}

func TestAdminSocketThatCannotBeMade(t *testing.T) {
	t.Parallel()
	l := operated(t, "admin.socket = \"/nonexistent/admin.sock\"\n")
	d, err := New(l.options)
	require.NoError(t, err)
	err = d.Run(t.Context())
	require.ErrorContains(t, err, "cannot make the admin socket /nonexistent/admin.sock: ")
	require.NoFileExists(t, l.path(), "what was opened before is closed")
}

func TestBusyMetricsPort(t *testing.T) {
	t.Parallel()
	l := operated(t, "")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = busy.Close() }()
	text, err := os.ReadFile(l.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.config, []byte(strings.Replace(string(text), "127.0.0.1:0", busy.Addr().String(), 1)), 0o600))
	d, err := New(l.options)
	require.NoError(t, err)
	err = d.Run(t.Context())
	require.ErrorContains(t, err, "cannot listen on "+busy.Addr().String()+" for metrics: ")
	require.ErrorContains(t, err, "ss -ltnp")
	require.NoFileExists(t, l.path())
	require.NoFileExists(t, l.adminPath())
}

// Nothing that changes the daemon is reachable where Postfix or Prometheus ask.
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
	require.Empty(t, answer, "HTTP is no netstring")
	require.NoError(t, conn.Close())
	require.Nil(t, l.daemon.LastReload())
}
