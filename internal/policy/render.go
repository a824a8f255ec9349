package policy

import (
	"errors"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// secure fills in the policy that only the hosts in match satisfy: a chain to a trusted root,
// a certificate that names the host, and the host's name sent as SNI (postconf(5),
// smtp_tls_policy_maps). It is never "match=hostname": another MX answer that Postfix may see
// is not believed. A name that is no host name, or an empty list, ends in TEMP.
func (d *Decision) secure(s Source, match []string) {
	d.Source = s
	for _, m := range match {
		if !prefix.ValidHost(m) {
			d.Reply = socketmap.Temp("internal error: not a host name in a policy")
			return
		}
	}
	if len(match) == 0 {
		d.Reply = socketmap.Temp("internal error: a policy that no host satisfies")
		return
	}
	d.Level = LevelSecure
	d.Reply = socketmap.OK("secure match=" + strings.Join(match, ":") + " servername=hostname")
}

// routeToDomain renders the route over all MX hosts of a domain, transport(5).
func routeToDomain(transport, domain string, port uint16) string {
	return transport + ":" + domain + ":" + portText(port)
}

// routeToHosts renders the route over some hosts, in order: a next-hop list (transport(5), since
// Postfix 3.5).
func routeToHosts(transport string, hosts []string, port uint16) string {
	var b strings.Builder
	b.WriteString(transport)
	b.WriteByte(':')
	for i, h := range hosts {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("[" + h + "]:" + portText(port))
	}
	return b.String()
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// reason returns what failed, without the question, for a TEMP reply.
func reason(err error) string {
	if failed, ok := errors.AsType[*dns.Error](err); ok {
		return failed.Reason
	}
	return text.Printable(err.Error())
}
