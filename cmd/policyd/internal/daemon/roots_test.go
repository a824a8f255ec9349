package daemon

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/socketmap"
)

// The root certificates are read again when their file changes, without a reload. Verdicts of probes that rest on the old
// ones are void; live MTA-STS policies are not.
func TestRootsAreReadAgainWhenTheirFileChanges(t *testing.T) {
	t.Parallel()
	before, after := smtptest.NewCA(t), smtptest.NewCA(t)
	cert := after.Names(t, "smtps-mx.open.example")
	receiver := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{Cert: &cert, Implicit: true})
	l := newLab(t, "")
	file := filepath.Join(l.dir, "ca.pem")
	replace := func(content []byte) {
		require.NoError(t, os.WriteFile(file+".new", content, 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	pemOf := func(ca *smtptest.CA) []byte {
		return ca.PEM()
	}
	replace(pemOf(before))
	other := dnstest.New(t)
	other.SetOther(dnstest.Answer{Records: []string{"MX 10 mx.example.com."}})
	second := after.Names(t, "dns.example")
	overTLS, err := other.StartTLS(&tls.Config{Certificates: []tls.Certificate{second}, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(l.config, fmt.Appendf(nil, "dns.second_opinion = \"tls://dns.example@"+overTLS+"\"\n"+
		"server.listen = [\"unix:%s\"]\ndns.servers = [%q]\ncache.state_dir = \"\"\n"+
		"admin.socket = %q\nport26.port = %d\nport26.probe_special_addresses = true\ntls.ca_file = %q\n",
		l.path(), l.dns.Addr(), l.adminPath(), receiver.Addr().Port(), file), 0o600))
	l.dns.Set("open.example", dns.TypeMX, dnstest.Answer{Secure: true, Records: []string{"MX 10 smtps-mx.open.example."}})
	l.dns.Set("smtps-mx.open.example", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 127.0.0.1"}})
	l.dns.Set("smtps-mx.open.example", dns.TypeAAAA, dnstest.Answer{Secure: true})
	l.dns.Set("_mta-sts.open.example", dns.TypeTXT, dnstest.Answer{Secure: true})
	l.start()
	c, op := l.client(), l.adminPath()
	verdict := func() string {
		_, err := c.Lookup(t.Context(), socketmap.Request{Map: "tls-policy", Key: "open.example"})
		require.NoError(t, err)
		known, err := admin.GetDomain.Ask(t.Context(), op, admin.DomainRequest{Domain: "open.example"})
		require.NoError(t, err)
		if len(known.Probes) == 0 {
			return ""
		}
		return known.Probes[0].State + " " + known.Probes[0].Cause
	}
	becomes := func(want string) {
		require.Eventually(t, func() bool { return verdict() == want }, testTimeout, 20*time.Millisecond, "%s", l.log)
	}
	becomes("closed certificate-chain")
	opinion := func() error {
		_, err := l.daemon.second.Lookup(t.Context(), dns.Question{Name: "example.com", Type: dns.TypeMX}, dns.Effort{})
		return err
	}
	require.ErrorContains(t, opinion(), "unknown authority")
	stored := l.daemon.store

	replace([]byte("no certificate"))
	require.Eventually(t, func() bool { return strings.Contains(l.log.String(), "root certificates changed and cannot be used") }, testTimeout, 20*time.Millisecond)
	require.NoError(t, os.Remove(file))
	require.ErrorIs(t, l.daemon.reloadRoots(), os.ErrNotExist)
	require.Equal(t, "closed certificate-chain", verdict())
	replace(pemOf(after))
	becomes("open ")
	require.Eventually(t, func() bool { return opinion() == nil }, testTimeout, 20*time.Millisecond, "dns.second_opinion has the new roots too")
	require.Same(t, stored, l.daemon.store)
	require.NotContains(t, l.log.String(), "panic")
}
