package postfix_test

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/smtptls"
)

func (f fake) client() *postfix.Client {
	return &postfix.Client{Site: f.site(postfix.Options{}), Transport: "smtps26"}
}

func TestAClientHasTheSettingsOfItsService(t *testing.T) {
	t.Parallel()
	f := newFake(t, "smtp_helo_name = main.example\nsmtp_tls_CAfile = /main.pem\nsmtp_tls_mandatory_ciphers = medium\n"+
		"tls_medium_cipherlist = ALL\nsmtp_tls_exclude_ciphers = MD5, RC4\n")
	f.write("overrides", "smtps26/unix/smtp_tls_CAfile = /service.pem\nsmtps26/unix/smtp_helo_name = service.example\n")
	c := f.client()
	require.Equal(t, "service.example", c.Helo(t.Context()))
	args := func(d smtptls.Dialogue) string {
		t.Helper()
		d.Host, d.Addr, d.Timeout = "smtps-a.example", netip.MustParseAddrPort("192.0.2.1:26"), time.Minute
		require.Equal(t, smtptls.Verified, c.Ask(t.Context(), d).Verdict)
		text, err := os.ReadFile(f.path("args"))
		require.NoError(t, err)
		return string(text)
	}
	require.Contains(t, args(smtptls.Dialogue{Implicit: true}), "\n-F\n/service.pem\n-g\nmedium\n-o\ntls_medium_cipherlist=ALL:!MD5:!RC4\n")
	require.Contains(t, args(smtptls.Dialogue{}), "\n-F\n/main.pem\n")
	c.CAFile = "/settings.pem"
	require.Contains(t, args(smtptls.Dialogue{}), "\n-F\n/main.pem\n", "the roots of Postfix count")
	c.OnlyCAFile = true
	require.Contains(t, args(smtptls.Dialogue{}), "\n-F\n/settings.pem\n")
}

func TestAClientWithoutSettingsHasNoVerdict(t *testing.T) {
	t.Parallel()
	f := newFake(t, "mydestination = /nonexistent/file\n")
	c := f.client()
	o := c.Ask(t.Context(), smtptls.Dialogue{})
	require.Equal(t, smtptls.NoVerdict, o.Verdict)
	require.Contains(t, o.Why, "no root certificates", "a list that cannot be read does not matter here")

	f = newFake(t, "smtp_tls_CAfile = /main.pem\n")
	f.write("broken", "bad main.cf")
	c = f.client()
	o = c.Ask(t.Context(), smtptls.Dialogue{})
	require.Equal(t, smtptls.NoVerdict, o.Verdict)
	require.Contains(t, o.Why, "bad main.cf")
	require.Empty(t, c.Helo(t.Context()))

	f = newFake(t, "smtp_helo_name = main.example\n")
	c = f.client()
	require.Equal(t, "main.example", c.Helo(t.Context()))
	f.write("broken", "bad main.cf")
	c.Site.Configure(postfix.Options{Postconf: fakePostconf(t), ConfigDirectory: f.dir})
	_, _, err := c.Site.Own(t.Context(), "elsewhere.example", dns.Effort{})
	require.ErrorContains(t, err, "bad main.cf")
	require.Equal(t, "main.example", c.Helo(t.Context()), "settings that cannot be read stay as they were")
}
