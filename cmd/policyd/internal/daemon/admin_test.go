package daemon

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/socketmap"
)

// What probes find is shown with the domain, counted in status and metrics, and outlives a flush.
func TestProbesAreShown(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	cert := ca.Names(t, "smtps-mx.open.example")
	receiver := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{Cert: &cert, Implicit: true})
	l := newLab(t, "")
	roots := filepath.Join(l.dir, "ca.pem")
	require.NoError(t, os.WriteFile(roots, ca.PEM(), 0o600))
	require.NoError(t, os.WriteFile(l.config, fmt.Appendf(nil, "server.listen = [\"unix:%s\"]\ndns.servers = [%q]\ncache.state_dir = \"\"\n"+
		"metrics.listen = \"127.0.0.1:0\"\nadmin.socket = %q\npolicy.mta_sts = false\nport26.port = %d\nport26.probe_special_addresses = true\ntls.ca_file = %q\n",
		l.path(), l.dns.Addr(), l.adminPath(), receiver.Addr().Port(), roots), 0o600))
	for domain, host := range map[string]string{"open.example": "smtps-mx.open.example", "closed.example": "smtps-mx.closed.example"} {
		l.dns.Set(domain, dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 " + host + "."}})
		l.dns.Set(host, dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 127.0.0.1"}})
		l.dns.Set(host, dns.TypeAAAA, dnstest.Answer{Secure: true})
	}
	l.start()
	c, op := l.client(), l.adminPath()
	probesOf := func(domain string) []probe.Entry {
		_, err := c.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: domain})
		require.NoError(t, err)
		known, err := admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: domain})
		require.NoError(t, err)
		return known.Probes
	}
	settled := func(domain string) func() bool {
		return func() bool { p := probesOf(domain); return len(p) == 1 && p[0].State != "unknown" }
	}
	require.Eventually(t, settled("open.example"), testTimeout, 20*time.Millisecond)
	require.Eventually(t, settled("closed.example"), testTimeout, 20*time.Millisecond)
	open, closed := probesOf("open.example")[0], probesOf("closed.example")[0]
	require.Equal(t, "smtps-mx.open.example", open.Host)
	require.Equal(t, "open", open.State)
	require.False(t, open.Expires.IsZero())
	require.Equal(t, "closed", closed.State)
	require.Equal(t, "certificate-name", closed.Cause)
	require.NotEmpty(t, closed.Why)

	st, err := admin.GetStatus.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{"open": 1, "closed": 1, "unknown": 0}, st.Probes.Hosts)
	require.Equal(t, uint64(1), st.Probes.Results["certificate-name"])
	require.Nil(t, st.MTASTS, "it is switched off")
	_, text := l.get("/metrics")
	require.Contains(t, text, "policyd_probe_hosts{state=\"open\"} 1\n")
	require.Contains(t, text, "policyd_probes_total{result=\"certificate-name\"} 1\n")

	_, err = admin.FlushCache.Ask(t.Context(), op, admin.FlushRequest{Domain: "open.example"})
	require.NoError(t, err)
	require.Equal(t, "open", probesOf("open.example")[0].State)
}

// A stored MTA-STS policy outlives a flush, unless it is named.
func TestMTASTSPoliciesAreShownAndFlushed(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	host := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "version: STSv1\nmode: enforce\nmx: mx.sts.example\nmax_age: 86400\n")
	}))
	host.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Names(t, "mta-sts.sts.example")}, MinVersion: tls.VersionTLS12}
	host.StartTLS()
	t.Cleanup(host.Close)
	address, err := url.Parse(host.URL)
	require.NoError(t, err)
	port, err := strconv.ParseUint(address.Port(), 10, 16)
	require.NoError(t, err)

	l := newLab(t, "")
	require.NoError(t, os.WriteFile(l.config, fmt.Appendf(nil, "server.listen = [\"unix:%s\"]\ndns.servers = [%q]\ncache.state_dir = %q\n"+
		"metrics.listen = \"127.0.0.1:0\"\nadmin.socket = %q\nport26.mode = \"off\"\n", l.path(), l.dns.Addr(), l.dir, l.adminPath()), 0o600))
	l.dns.Set("sts.example", dns.TypeMX, dnstest.Answer{Records: []string{"MX 10 mx.sts.example."}})
	l.dns.Set("mx.sts.example", dns.TypeA, dnstest.Answer{Records: []string{"A 192.0.2.1"}})
	l.dns.Set("_mta-sts.sts.example", dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "v=STSv1; id=7;"`}})
	l.dns.Set("mta-sts.sts.example", dns.TypeA, dnstest.Answer{Records: []string{"A 127.0.0.1"}})
	l.start()
	options := l.daemon.storeOptions(l.daemon.loaded.Load())
	options.Fetcher = &mtasts.Fetcher{Resolver: l.daemon.cache, Port: uint16(port), Special: true, Roots: ca.Roots}
	l.daemon.store.Configure(options)

	c, op := l.client(), l.adminPath()
	require.Equal(t, "OK secure match=mx.sts.example servername=hostname", ask(t, c, "sts.example"))
	known, err := admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: "sts.example"})
	require.NoError(t, err)
	require.NotNil(t, known.MTASTS)
	require.Equal(t, mtasts.Enforce, known.MTASTS.Mode)
	require.Equal(t, "7", known.MTASTS.ID)
	require.Equal(t, []string{"mx.sts.example"}, known.MTASTS.MX)
	require.Equal(t, 24*time.Hour, known.MTASTS.Expires.Sub(known.MTASTS.Fetched))
	other, err := admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: "ts.example"})
	require.NoError(t, err)
	require.Nil(t, other.MTASTS, "the store has a domain that contains the name, and not the domain")

	st, err := admin.GetStatus.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.Equal(t, 1, st.MTASTS.Policies)
	require.True(t, st.MTASTS.Persistent)
	require.Equal(t, map[string]uint64{"ok": 1, "failed": 0}, st.MTASTS.Fetches)
	require.Nil(t, st.Probes, "it is switched off")
	_, text := l.get("/metrics")
	require.Contains(t, text, "policyd_sts_fetches_total{result=\"ok\"} 1\n")
	require.Contains(t, text, "policyd_sts_policies 1\n")

	flushed, err := admin.FlushCache.Ask(t.Context(), op, admin.FlushRequest{Domain: "sts.example"})
	require.NoError(t, err)
	require.Zero(t, flushed.Policies)
	known, err = admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: "sts.example"})
	require.NoError(t, err)
	require.NotNil(t, known.MTASTS, "dropping it would weaken")
	flushed, err = admin.FlushCache.Ask(t.Context(), op, admin.FlushRequest{Domain: "sts.example", STS: true})
	require.NoError(t, err)
	require.Equal(t, 1, flushed.Policies)
	known, err = admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: "sts.example"})
	require.NoError(t, err)
	require.Nil(t, known.MTASTS)
}
