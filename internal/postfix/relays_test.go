package postfix_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

func TestRelayHostsOfPostfixItself(t *testing.T) {
	t.Parallel()
	f := newFake(t, parents+`relayhost = [Relay.Corp.Example.]:25
default_transport = smtp:[default.corp.example]
relay_transport = relay:[inbound.corp.example]:26, smtp:[inbound2.corp.example]
smtp_fallback_relay = [fallback.corp.example], mx-lookup.corp.example
virtual_transport = smtp:[virtual.corp.example]
local_transport = smtp:[local.corp.example]:25
mailbox_transport = smtp:[mailbox.corp.example]
fallback_transport = smtp:[unknown.corp.example]
sender_dependent_relayhost_maps = proxy:hash:DIR/senders, inline:{ {@inline.example = [inline.corp.example]} }
sender_dependent_default_transport_maps = regexp:DIR/patterns
transport_maps = regexp:DIR/guard texthash:DIR/transport hash:DIR/union unionmap:{hash:DIR/union,socketmap:inet:127.0.0.1:2526:transport}
`)
	f.write("senders", "@a.example\t[senders.corp.example]:25\n# @b.example [comment.corp.example]\n")
	f.write("patterns", "/@c\\.example$/  smtp:[patterns.corp.example]\n")
	f.write("guard", "/@own\\.example$/ :\n")
	f.write("transport", "d.example relay:[transport.corp.example], [second.corp.example]\n")
	f.write("union", "e.example smtp:[union.corp.example]\n")
	f.write("overrides", "smtp/unix/smtp_fallback_relay = [service.corp.example]\nsmtp/inet/content_filter = smtp:[filter.corp.example]\n")
	s := f.site(postfix.Options{})
	for host, want := range map[string]bool{
		"relay.corp.example": true, "RELAY.corp.example.": true, "default.corp.example": true, "inbound.corp.example": true,
		"inbound2.corp.example": true, "fallback.corp.example": true, "senders.corp.example": true, "inline.corp.example": true,
		"patterns.corp.example": true, "transport.corp.example": true, "second.corp.example": true, "union.corp.example": true,
		"service.corp.example": true, "virtual.corp.example": true, "local.corp.example": true, "mailbox.corp.example": true,
		"unknown.corp.example": true, "filter.corp.example": true,
		"corp.example": false, "comment.corp.example": false, "mx-lookup.corp.example": false, "x.relay.corp.example": false, "": false,
	} {
		relay, err := s.RelayHost(t.Context(), host, dns.Effort{})
		require.NoError(t, err, host)
		require.Equal(t, want, relay, host)
	}
	require.Equal(t, 2, f.lines("listed"), "each indexed table is listed once")

	f.write("main.cf", "relayhost = [other.corp.example]\ntransport_maps = hash:DIR/missing, texthash:DIR/transport\n")
	s.Configure(postfix.Options{Postconf: fakePostconf(t), ConfigDirectory: f.dir})
	relay, err := s.RelayHost(t.Context(), "other.corp.example", dns.Effort{})
	require.NoError(t, err)
	require.True(t, relay)
	relay, err = s.RelayHost(t.Context(), "transport.corp.example", dns.Effort{})
	require.NoError(t, err, "a table that fails does not hide another")
	require.True(t, relay)
	relay, err = s.RelayHost(t.Context(), "elsewhere.example", dns.Effort{})
	require.ErrorContains(t, err, "No such file")
	require.False(t, relay, "unknown is never a relay host")

	f.write("broken", "bad main.cf")
	s.Configure(postfix.Options{Postconf: fakePostconf(t), ConfigDirectory: f.dir})
	relay, err = s.RelayHost(t.Context(), "other.corp.example", dns.Effort{})
	require.ErrorContains(t, err, "bad main.cf")
	require.False(t, relay)
}
