package main

import (
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// summary returns one sentence about what happens to mail for a next hop, and in report mode another one about what
// would happen.
func summary(x lookup.Explanation) string {
	mail := "Mail to " + text.Printable(x.Nexthop) + " "
	if nowhere(x) {
		return mail + "is returned to the sender: the domain does not exist, or accepts no mail."
	}
	if x.TLSPolicy != x.WouldTLSPolicy {
		return mail + `is sent as without policyd, because mode = "report". With mode = "enforce", mail to it ` +
			fate(x.WouldTLSPolicy, x.WouldTransport, x.Source) + "."
	}
	return mail + fate(x.TLSPolicy, x.Transport, x.Source) + "."
}

// nowhere reports whether an answer from DNS proves that a domain has no MX host at all, not even an implicit one, and
// no override decides.
func nowhere(x lookup.Explanation) bool {
	known := x.DNSSEC == dns.Secure.String() || x.DNSSEC == dns.Insecure.String()
	return known && len(x.MX) == 0 && x.Source == string(policy.ReasonNone) && !strings.HasPrefix(x.Nexthop, "[") &&
		x.WouldTLSPolicy.Status == socketmap.StatusNotFound
}

// fate returns the rest of the sentence for the answers of both maps.
func fate(tls, transport socketmap.Reply, source string) string {
	answer := text.Printable(tls.Text)
	level, attributes, _ := strings.Cut(answer, " ")
	switch {
	case tls.Status == socketmap.StatusNotFound:
		return "is sent as without policyd: over TLS where the server offers it, without verification"
	case tls.Status != socketmap.StatusOK:
		return "waits: " + answer
	case source == "override":
		return "is sent under the policy of the overrides file: " + answer
	case level == "secure":
		return "is sent only over verified TLS to " + hostsOf(attributes) + route(transport)
	case level == "dane-only":
		return "is sent only over TLS that DANE verifies" + route(transport)
	case level == "dane":
		return "is sent over TLS that DANE verifies to hosts with usable TLSA records, and to other hosts as " +
			"without policyd"
	}
	return "is sent under the policy " + answer
}

// hostsOf names the hosts in the attributes of a policy.
func hostsOf(attributes string) string {
	for attribute := range strings.FieldsSeq(attributes) {
		names, ok := strings.CutPrefix(attribute, "match=")
		if !ok {
			continue
		}
		list := strings.Split(names, ":")
		for i, name := range list {
			if below, all := strings.CutPrefix(name, "."); all {
				list[i] = "hosts below " + below
			}
		}
		const most = 3
		if rest := len(list) - most; rest > 1 {
			return strings.Join(list[:most], ", ") + " and " + number(uint64(rest)) + " other hosts"
		}
		last := len(list) - 1
		if last == 0 {
			return list[0]
		}
		return strings.Join(list[:last], ", ") + " or " + list[last]
	}
	return "its MX hosts"
}

// route returns the part of the sentence about implicit TLS, if that is used.
func route(transport socketmap.Reply) string {
	if transport.Status != socketmap.StatusOK {
		return ""
	}
	port := transport.Text[strings.LastIndexByte(transport.Text, ':')+1:]
	return ", with implicit TLS on port " + text.Printable(port)
}
