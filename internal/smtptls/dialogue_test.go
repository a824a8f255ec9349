package smtptls_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mx = "smtps-a.example.com"

func TestDialogue(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	good := ca.Names(t, mx)
	of := func(l smtptest.Leaf) *tls.Certificate {
		c := ca.Issue(t, l)
		return &c
	}
	long := strings.Repeat("x", 3000)
	for name, c := range map[string]struct {
		b      smtptest.Behaviour
		failed smtptls.Step
		cause  smtptls.Cause
		why    string
		// slow is for servers that never end a reply; onlyImplicit for what cannot precede STARTTLS.
		slow, onlyImplicit bool
	}{
		"a sound host":                        {b: smtptest.Behaviour{Cert: &good}},
		"a wildcard for the first label":      {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{"*.example.com"}})}},
		"one name of several":                 {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{"www.example.com", mx}})}},
		"TLS 1.2":                             {b: smtptest.Behaviour{Cert: &good, MaxVersion: tls.VersionTLS12}},
		"TLS 1.1":                             {b: smtptest.Behaviour{Cert: &good, MaxVersion: tls.VersionTLS11}, failed: smtptls.StepTLS, cause: smtptls.TLSHandshake, why: "protocol version not supported"},
		"another name":                        {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{"mx.example.com"}})}, failed: smtptls.StepCertificate, cause: smtptls.CertificateName, why: "is for mx.example.com, not for " + mx},
		"a wildcard stands for one label":     {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{"*.com"}})}, failed: smtptls.StepCertificate, cause: smtptls.CertificateName, why: "is for *.com"},
		"a common name is not a SAN":          {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{CommonName: mx})}, failed: smtptls.StepCertificate, cause: smtptls.CertificateName, why: "no DNS name"},
		"a certificate that has expired":      {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{mx}, NotBefore: time.Now().AddDate(0, 0, -9), NotAfter: time.Now().Add(-time.Hour)})}, failed: smtptls.StepCertificate, cause: smtptls.CertificateExpired, why: "expired on"},
		"a certificate that is not yet valid": {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{mx}, NotBefore: time.Now().Add(time.Hour)})}, failed: smtptls.StepCertificate, cause: smtptls.CertificateExpired, why: "not valid before"},
		"a self-signed certificate":           {b: smtptest.Behaviour{Cert: of(smtptest.Leaf{Names: []string{mx}, SelfSigned: true})}, failed: smtptls.StepCertificate, cause: smtptls.CertificateChain, why: "unknown authority"},
		"a handshake that is dropped":         {b: smtptest.Behaviour{Cert: &good, Drop: "handshake"}, failed: smtptls.StepTLS, cause: smtptls.TLSHandshake, why: "the connection was closed"},
		"a handshake that stalls":             {b: smtptest.Behaviour{Cert: &good, Stall: "handshake"}, failed: smtptls.StepTLS, cause: smtptls.TLSHandshake, why: "timeout"},
		"a banner that does not arrive":       {b: smtptest.Behaviour{Cert: &good, Stall: "banner"}, failed: smtptls.StepBanner, cause: smtptls.Banner, why: "timeout"},
		"a connection dropped for a banner":   {b: smtptest.Behaviour{Cert: &good, Drop: "banner"}, failed: smtptls.StepBanner, cause: smtptls.Banner, why: "the connection was closed"},
		"a banner that refuses":               {b: smtptest.Behaviour{Cert: &good, Banner: "554 go\x07 away"}, failed: smtptls.StepBanner, cause: smtptls.Banner, why: "the host says 554 go? away"},
		"a banner that is not SMTP":           {b: smtptest.Behaviour{Cert: &good, Banner: "HTTP/1.1 400 Bad Request"}, failed: smtptls.StepBanner, cause: smtptls.Banner, why: "timeout", slow: true},
		"a banner of two codes":               {b: smtptest.Behaviour{Cert: &good, Banner: "220-hello\r\n221 no"}},
		"a banner of two codes, one bad":      {b: smtptest.Behaviour{Cert: &good, Banner: "220-hello\r\n421 no"}, failed: smtptls.StepBanner, cause: smtptls.Banner, why: "the host says 421 hello"},
		"a banner with 250":                   {b: smtptest.Behaviour{Cert: &good, Banner: "250 hello"}},
		"a banner with lines without a code":  {b: smtptest.Behaviour{Cert: &good, Banner: "hello\r\n220 there"}},
		"a banner of 300 lines":               {b: smtptest.Behaviour{Cert: &good, Banner: strings.Repeat("220-on and on\r\n", 299) + "220 end"}},
		"a banner of 2 MiB":                   {b: smtptest.Behaviour{Cert: &good, Banner: strings.Repeat("220-on and on\r\n", 150_000)}, failed: smtptls.StepBanner, cause: smtptls.NotJudged, why: "more than 1 MiB in one connection"},
		"a banner without an end":             {b: smtptest.Behaviour{Cert: &good, Banner: strings.Repeat("220-on and on\r\n", 500)}, failed: smtptls.StepBanner, cause: smtptls.Banner, why: "timeout", slow: true},
		"a line of 3,000 octets":              {b: smtptest.Behaviour{Cert: &good, Banner: "220 " + long}},
		"an EHLO reply of 5,000 lines":        {b: smtptest.Behaviour{Cert: &good, EHLO: "250-x\r\n250-STARTTLS\r\n" + strings.Repeat("250-on and on\r\n", 5000) + "250 end"}},
		"EHLO refused, HELO accepted":         {b: smtptest.Behaviour{Cert: &good, EHLO: "503 not here", HELO: "250 welcome"}, onlyImplicit: true},
		"EHLO and HELO refused":               {b: smtptest.Behaviour{Cert: &good, EHLO: "503 not here", HELO: "503 nor here"}, failed: smtptls.StepEHLO, cause: smtptls.Banner, why: "503 not here"},
		"EHLO answered 421":                   {b: smtptest.Behaviour{Cert: &good, EHLO: "421 later", HELO: "250 welcome"}, failed: smtptls.StepEHLO, cause: smtptls.Banner, why: "421 later"},
		"an EHLO that is refused":             {b: smtptest.Behaviour{Cert: &good, EHLO: "550 not you"}, failed: smtptls.StepEHLO, cause: smtptls.Banner, why: "the host says 550 not you"},
	} {
		for _, implicit := range []bool{true, false} {
			if c.onlyImplicit && !implicit {
				continue
			}
			t.Run(name+map[bool]string{true: ", implicit TLS", false: ", STARTTLS"}[implicit], func(t *testing.T) {
				t.Parallel()
				b := c.b
				b.Implicit = implicit
				r := smtptest.Start(t, "127.0.0.1:0", b)
				d := smtptls.Dialogue{Host: mx, Addr: r.Addr(), Implicit: implicit, Roots: ca.Roots}
				if c.b.Stall != "" || c.slow {
					d.Timeout = 3 * time.Second // a normal reply takes much less, even on a busy machine
				}
				tr := smtptls.RunDialogue(t.Context(), d)
				require.Equal(t, c.failed, tr.Failed, tr.Why)
				require.Equal(t, c.cause, tr.Cause, tr.Why)
				require.Contains(t, tr.Why, c.why)
				require.Equal(t, c.failed == smtptls.StepNone, tr.OK())
				require.True(t, tr.Connected)
				require.False(t, tr.LocalFailure() || tr.Silent())
				for _, command := range r.Commands() {
					require.Regexp(t, `^((EHLO|HELO) \[127\.0\.0\.1\]|STARTTLS|QUIT)$`, command)
				}
				for _, name := range r.SNI() {
					require.Equal(t, mx, name)
				}
				if tr.OK() {
					require.NotEmpty(t, tr.Session.SAN)
					require.Len(t, tr.Session.Path, 2)
					require.Equal(t, "QUIT", r.Commands()[len(r.Commands())-1])
				}
			})
		}
	}
}

func TestDialogueOnlyImplicit(t *testing.T) {
	t.Parallel()
	r := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{Banner: "220 cheap hosting"})
	tr := smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: r.Addr(), Implicit: true})
	require.Equal(t, smtptls.Plaintext, tr.Cause)
	require.Equal(t, "TLS handshake: the host speaks in plaintext: 220", tr.Why)
	for _, said := range r.Commands() {
		require.NotRegexp(t, "^(EHLO|STARTTLS|QUIT)", said, "nothing but a ClientHello")
	}
}

func TestDialogueSTARTTLS(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	good := ca.Names(t, mx)
	talk := func(b smtptest.Behaviour) (smtptls.Transcript, []string) {
		r := smtptest.Start(t, "127.0.0.1:0", b)
		tr := smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: r.Addr(), Roots: ca.Roots, Helo: "client.example"})
		return tr, r.Commands()
	}
	tr, commands := talk(smtptest.Behaviour{})
	require.Equal(t, "STARTTLS: not offered", tr.Why)
	require.Equal(t, smtptls.Plaintext, tr.Cause)
	require.False(t, tr.Offered)
	require.Equal(t, []string{"EHLO client.example", "QUIT"}, commands)

	tr, commands = talk(smtptest.Behaviour{Cert: &good, STARTTLS: "454 not now"})
	require.Equal(t, "STARTTLS: the host says 454 not now", tr.Why)
	require.Equal(t, 454, tr.STARTTLS.Code)
	require.True(t, tr.Offered)
	require.Equal(t, []string{"EHLO client.example", "STARTTLS", "QUIT"}, commands)

	tr, commands = talk(smtptest.Behaviour{Cert: &good, STARTTLS: "220 go ahead\r\n250-injected\r\n250 AUTH"})
	require.True(t, tr.Stray, "data in the clear after the reply is noticed")
	require.True(t, tr.OK(), "and thrown away: %s", tr.Why)
	require.NotContains(t, strings.Join(tr.EHLOAgain.Lines, " "), "AUTH")
	require.Equal(t, []string{"EHLO client.example", "STARTTLS", "EHLO client.example", "QUIT"}, commands)
}

// A host counts a connection until it has closed it, so our next one must come after that.
func TestDialoguesDoNotOverlap(t *testing.T) {
	t.Parallel()
	ca := smtptest.NewCA(t)
	good := ca.Names(t, mx)
	for _, implicit := range []bool{true, false} {
		r := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{Cert: &good, Implicit: implicit})
		for range 20 {
			tr := smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: r.Addr(), Implicit: implicit, Roots: ca.Roots})
			require.True(t, tr.OK(), tr.Why)
		}
		require.Equal(t, 1, r.Most())
	}
}

// The dialogue does not wait for a host that replies 221 and keeps the connection open.
func TestDialogueWithAHostThatStays(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gone := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(conn, "220 here\r\n250 hello\r\n221 bye\r\n") // EHLO has no STARTTLS
			_, _ = io.Copy(io.Discard, conn)                                      // until the other side closes
			err = errors.Join(err, conn.Close())
		}
		gone <- err
	}()
	tr := smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: netip.MustParseAddrPort(l.Addr().String())})
	require.Equal(t, "STARTTLS: not offered", tr.Why)
	require.NoError(t, <-gone)
	require.Equal(t, "C: QUIT", tr.Lines[len(tr.Lines)-2])
	require.NoError(t, l.Close())
}

func TestDialogueThatDoesNotConnect(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParseAddr("127.0.0.1")
	blackHole := testkit.BlackHole(t, netip.AddrPortFrom(loopback, 0))
	refusing := netip.AddrPortFrom(loopback, testkit.Port(t))
	tr := smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: refusing, Implicit: true})
	require.Equal(t, smtptls.Refused, tr.Cause)
	require.Equal(t, "connect: connection refused", tr.Why)
	require.False(t, tr.LocalFailure() || tr.Silent() || tr.Connected)

	// A queue that is full drops the SYN, as a filter does.
	tr = smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: blackHole, Implicit: true, Timeout: 300 * time.Millisecond})
	require.Equal(t, smtptls.Timeout, tr.Cause)
	require.Equal(t, "connect: timeout: no answer in time", tr.Why)
	require.True(t, tr.Silent())
	require.False(t, tr.LocalFailure())

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	tr = smtptls.RunDialogue(ctx, smtptls.Dialogue{Host: mx, Addr: blackHole, Implicit: true})
	require.True(t, tr.LocalFailure(), "the caller's hurry says nothing about the host: %s", tr.Why)
	require.Equal(t, smtptls.CauseNone, tr.Cause)

	// A connection that our own kernel refuses.
	tr = smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: netip.MustParseAddrPort("255.255.255.255:26"), Implicit: true})
	require.True(t, tr.LocalFailure(), tr.Why)
	require.False(t, tr.OK())
}

func TestZeroTranscriptIsNotOK(t *testing.T) {
	t.Parallel()
	var tr smtptls.Transcript
	require.False(t, tr.OK())
	require.False(t, tr.Connected)
}

// namedPostfix is a Postfix that knows its name, or none.
type namedPostfix string

func (namedPostfix) Ask(context.Context, smtptls.Dialogue) smtptls.Opinion { return smtptls.Opinion{} }
func (p namedPostfix) Helo(context.Context) string                         { return string(p) }

// TestNameInEHLO: the name of Postfix, then the setting, then the address.
func TestNameInEHLO(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		postfix smtptls.Judge
		helo    string
	}{
		"mail.example.com":    {namedPostfix("mail.example.com"), "setting.example.com"},
		"setting.example.com": {namedPostfix(""), "setting.example.com"},
		"other.example.com":   {nil, "other.example.com"},
		"[127.0.0.1]":         {nil, ""},
	} {
		r := smtptest.Start(t, "127.0.0.1:0", smtptest.Behaviour{})
		smtptls.RunDialogue(t.Context(), smtptls.Dialogue{Host: mx, Addr: r.Addr(), Helo: c.helo, Postfix: c.postfix})
		require.Equal(t, []string{"EHLO " + want, "QUIT"}, r.Commands())
	}
}
