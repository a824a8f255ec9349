package daemon

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
)

// If no MTA-STS policy of five domains in five networks can be fetched, the log, status and metrics report it once. The mail
// is not stopped: the domains count as ones without MTA-STS.
func TestBlockedFetchesAreReported(t *testing.T) {
	t.Parallel()
	l := newLab(t, "")
	require.NoError(t, os.WriteFile(l.config, fmt.Appendf(nil, "server.listen = [\"unix:%s\"]\ndns.servers = [%q]\ncache.state_dir = \"\"\n"+
		"metrics.listen = \"127.0.0.1:0\"\nadmin.socket = %q\nport26.mode = \"off\"\nport26.probe_special_addresses = true\n",
		l.path(), l.dns.Addr(), l.adminPath()), 0o600))
	const domains = 5
	for i := range domains {
		domain := fmt.Sprintf("d%d.example", i)
		l.dns.Set(domain, dns.TypeMX, dnstest.Answer{Records: []string{"MX 10 mx.example."}})
		l.dns.Set("_mta-sts."+domain, dns.TypeTXT, dnstest.Answer{Records: []string{`TXT "v=STSv1; id=1;"`}})
		l.dns.Set("mta-sts."+domain, dns.TypeA, dnstest.Answer{Records: []string{fmt.Sprintf("A 127.77.%d.1", i)}})
	}
	l.dns.Set("mx.example", dns.TypeA, dnstest.Answer{Records: []string{"A 192.0.2.1"}})
	l.start()
	c, op := l.client(), l.adminPath()
	for i := range domains {
		st, err := admin.GetStatus.Ask(t.Context(), op, struct{}{})
		require.NoError(t, err)
		require.Zero(t, st.MTASTS.Blocked)
		require.Equal(t, "NOTFOUND ", ask(t, c, fmt.Sprintf("d%d.example", i)))
	}
	st, err := admin.GetStatus.Ask(t.Context(), op, struct{}{})
	require.NoError(t, err)
	require.False(t, st.MTASTS.Blocked.IsZero())
	require.Contains(t, strings.Join(st.Warnings, "\n"), "no MTA-STS policy can be fetched from this host")
	require.Equal(t, 1, strings.Count(l.log.String(), `level=WARN msg="no MTA-STS policy can be fetched from this host"`))
	_, text := l.get("/metrics")
	require.Contains(t, text, "policyd_sts_fetches_blocked 1\n")
}
