package main

import (
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// summary returns one sentence about what happens to mail for a next hop, and in report mode another one about what
// would happen.
func summary(x explain.Result) string {
	mail := "Mail to " + text.Printable(x.Nexthop) + " "
	proven := x.DNSSEC == dns.Secure.String() || x.DNSSEC == dns.Insecure.String()
	switch {
	case proven && len(x.MX) == 0 && x.Source == string(policy.SourceNone) && !strings.HasPrefix(x.Nexthop, "[") &&
		x.WouldTLSPolicy.Status == socketmap.StatusNotFound: // there is not even an implicit MX host
		return mail + "is returned to the sender: the domain does not exist, or accepts no mail."
	case x.TLSPolicy != x.WouldTLSPolicy:
		return mail + `is sent as without policyd, because mode = "report". With mode = "enforce", mail to it ` +
			whatHappens(x.WouldTLSPolicy, x.WouldTransport, x.Source) + "."
	}
	return mail + whatHappens(x.TLSPolicy, x.Transport, x.Source) + "."
}

// whatHappens returns the rest of the sentence for the answers of both maps.
func whatHappens(tls, transport socketmap.Reply, source string) string {
	answer, route := text.Printable(tls.Text), ""
	if transport.Status == socketmap.StatusOK {
		route = ", with implicit TLS on port " + transport.Text[strings.LastIndexByte(transport.Text, ':')+1:]
	}
	level, attributes, _ := strings.Cut(answer, " ")
	switch {
	case strings.Contains(transport.Text, "["): // a route by hosts: Postfix does not ask for the policy of the domain
		_, hosts, _ := strings.Cut(transport.Text, ":")
		return "is sent only over verified implicit TLS to " + hosts
	case tls.Status == socketmap.StatusNotFound:
		return "is sent as without policyd: over TLS where the server offers it, without verification"
	case tls.Status != socketmap.StatusOK:
		return "waits: " + answer
	case source == string(policy.SourceOverride):
		return "is sent under the policy of the overrides file: " + answer
	case level == "secure":
		hosts, _, _ := strings.Cut(strings.TrimPrefix(attributes, "match="), " ")
		list := strings.Split(hosts, ":")
		if rest := len(list) - 3; rest > 1 {
			list = append(list[:3], number(rest)+" other hosts")
		}
		return "is sent only over verified TLS to " + strings.Join(list, " or ") + route
	case level == "dane-only":
		return "is sent only over " + text.Either(route == "", "TLS that DANE verifies", "verified TLS") + route
	}
	return "is sent over TLS that DANE verifies to hosts with usable TLSA records, over TLS without verification to " +
		"hosts with only unusable ones, and to other hosts as without policyd"
}
