package main

import (
	"strings"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// summary returns one sentence about what happens to mail for a next hop.
func summary(x lookup.Explanation) string {
	mail := "Mail to " + text.Printable(x.Nexthop) + " "
	answer := text.Printable(x.TLSPolicy.Text)
	level, attributes, _ := strings.Cut(answer, " ")
	switch {
	case x.TLSPolicy.Status == socketmap.StatusNotFound.String():
		return mail + "is sent as without policyd: over TLS where the server offers it, without verification." + reported(x)
	case x.TLSPolicy.Status != socketmap.StatusOK.String():
		return mail + "waits: " + answer + "."
	case x.Source == "override":
		return mail + "is sent under the policy of the overrides file: " + answer + "."
	case level == "secure":
		return mail + "is sent only over verified TLS to " + hostsOf(attributes) + route(x) + "."
	case level == "dane-only":
		return mail + "is sent only over TLS that DANE verifies" + route(x) + "."
	case level == "dane":
		return mail + "is sent over TLS that DANE verifies to hosts with usable TLSA records, and to other hosts as without policyd."
	}
	return mail + "is sent under the policy " + answer + "."
}

// reported tells that a decision is not answered, in report mode.
func reported(x lookup.Explanation) string {
	for _, why := range x.Why {
		if strings.HasPrefix(why, `mode = "report"`) {
			return ` With mode = "enforce" a policy would apply.`
		}
	}
	return ""
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

// route tells that implicit TLS is used.
func route(x lookup.Explanation) string {
	if x.Transport.Status != socketmap.StatusOK.String() {
		return ""
	}
	port := x.Transport.Text[strings.LastIndexByte(x.Transport.Text, ':')+1:]
	return ", with implicit TLS on port " + text.Printable(port)
}
