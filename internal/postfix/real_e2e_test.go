//go:build e2e

package postfix_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

// TestRealPostfix reads a configuration with the commands of the installed Postfix.
func TestRealPostfix(t *testing.T) {
	t.Parallel()
	f := newFake(t, `compatibility_level = 3.6
myhostname = mx.own.example
mydestination = $myhostname, localhost.$mydomain,
  localhost
relay_domains = hash:DIR/relay !a.regexp.example regexp:DIR/patterns
virtual_alias_maps = inline:{ {alias.example=x}, {user@mail.example = x} } texthash:DIR/virtual
proxy_interfaces = 198.51.100.77
relayhost = [$mydomain]:25
transport_maps = hash:DIR/transport
no_such_parameter = x
myhostname = mx.own.example
`)
	f.write("master.cf", "smtp inet n - y - - smtpd\n  -o mydestination=service.example,$myhostname\n")
	f.write("relay", "relay.example x\n")
	f.write("patterns", "/^(.*\\.)?regexp\\.example$/ x\n/^[^.]+$/ x\n")
	f.write("virtual", "virtual.example x\n")
	f.write("transport", "far.example relay:[hub.example]\n")
	for _, table := range []string{"relay", "transport"} {
		require.NoError(t, exec.CommandContext(t.Context(), "/usr/sbin/postmap", "hash:"+f.path(table)).Run())
	}
	s := postfix.New(postfix.Options{ConfigDirectory: f.dir})
	for domain, want := range map[string]string{
		"mx.own.example":        "mydestination has mx.own.example",
		"localhost.own.example": "mydestination has localhost.own.example",
		"own.example":           "",
		"relay.example":         "relay_domains has relay.example in hash:" + f.path("relay"),
		"sub.relay.example":     "relay_domains has relay.example in hash:" + f.path("relay"),
		"x.regexp.example":      "relay_domains has x.regexp.example in regexp:" + f.path("patterns"),
		"a.regexp.example":      "relay_domains has a.regexp.example in regexp:" + f.path("patterns"),
		"elsewhere.example":     "",
		"alias.example":         "virtual_alias_domains has alias.example in inline:{ {alias.example=x}, {user@mail.example = x} }",
		"mail.example":          "",
		"virtual.example":       "virtual_alias_domains has virtual.example in texthash:" + f.path("virtual"),
		"service.example":       "smtp/inet/mydestination has service.example",
	} {
		f.owns(s, domain, want)
	}
	for host, want := range map[string]bool{"own.example": true, "hub.example": true, "far.example": false} {
		relay, err := s.RelayHost(t.Context(), host, dns.Effort{})
		require.NoError(t, err)
		require.Equal(t, want, relay, host)
	}
	require.True(t, s.OwnHost("smtps-mx.own.example"))

	for _, table := range []string{"hash:/nonexistent/x", "nosuchtype:/x", "socketmap:inet:127.0.0.1:9:x", "proxy:hash:/nonexistent/x"} {
		f := newFake(t, "compatibility_level = 3.6\nrelay_domains = "+table+"\n")
		f.write("master.cf", "")
		s := postfix.New(postfix.Options{ConfigDirectory: f.dir})
		_, _, err := s.Own(t.Context(), "elsewhere.example", dns.Effort{})
		require.ErrorContains(t, err, "cannot be asked", table)
	}
}
