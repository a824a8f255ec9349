package daemon

import (
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// get asks the metrics listener, which the log names.
func (l *lab) get(path string) (code int, body string) {
	l.t.Helper()
	return l.getFrom("metrics", path)
}

// getFrom asks the listener that the log names in a message.
func (l *lab) getFrom(opened, path string) (code int, body string) {
	l.t.Helper()
	address := regexp.MustCompile(`msg=listening listener=(\S+) setting=` + opened + `\.listen`).FindStringSubmatch(l.log.String())
	require.NotNil(l.t, address, l.log)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
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
	l.dns.Set("bogus.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6})
	c := l.client()
	for range 3 {
		require.Equal(t, signedPolicy, ask(t, c, "signed.example"))
	}
	require.Equal(t, unsignedPolicy, ask(t, c, "unsigned.example"))
	require.Contains(t, ask(t, c, "bogus.example"), "TEMP ")
	_, err := c.Lookup(t.Context(), socketmap.Request{Map: "transport", Key: "jane.doe@signed.example"})
	require.NoError(t, err)
	_, err = c.Lookup(t.Context(), socketmap.Request{Map: "no-such-map", Key: "signed.example"})
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
		`policyd_protocol_errors_total{kind="unknown-map"} 1`,
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
	require.Eventually(t, func() bool { return dead.daemon.stub.State().Reason != "" }, testTimeout, time.Millisecond)
	code, body = dead.get("/-/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "the self-test of the resolver has no result: ")
	code, _ = dead.get("/-/healthy")
	require.Equal(t, http.StatusOK, code)
	st, err := admin.GetStatus.Ask(t.Context(), dead.adminPath(), struct{}{})
	require.NoError(t, err)
	require.Contains(t, strings.Join(st.Warnings, "\n"), "the self-test of the resolver has no result; lookups fail until it has one: ")
	dead.dns.SetDead(false)
	require.Eventually(t, func() bool { code, _ := dead.get("/-/ready"); return code == http.StatusOK }, testTimeout, 50*time.Millisecond)
}
