package main

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/text"
)

// queryLabel is the left column of the screens of query and cache get.
const queryLabel = "%-10s  "

func (s *screen) explanation(x explain.Result) {
	s.label = queryLabel
	s.paragraph("", summary(x))
	rrset := ""
	// [host] means the host itself, whatever the MX RRset is.
	if !strings.HasPrefix(x.Nexthop, "[") && (len(x.MX) > 0 || x.DNSSEC != dns.Indeterminate.String()) {
		rrset = "   MX RRset: " + x.DNSSEC + wordsIf(len(x.MX) == 0, ", no hosts")
	}
	s.linef("\n%s%s", s.bold(x.Nexthop), rrset)
	if len(x.MX) > 0 {
		s.linef("")
		rows := [][]string{{"PREF", "HOST", "PREFIX", "DNSSEC", "DANE", "PROBE"}}
		for _, h := range x.MX {
			dane := h.DANE
			if h.DANE26 != h.DANE {
				dane += part(", implicit TLS: ", h.DANE26)
			}
			rows = append(rows, []string{
				fmt.Sprint(h.Preference), text.Printable(h.Host), h.Prefix, dash(h.DNSSEC), dash(dane),
				dash(h.Probe + part(": ", h.ProbeCause)),
			})
		}
		s.table(rows)
	}
	if p := x.MTASTS; p != nil {
		s.linef("")
		s.row("MTA-STS", "%s", stsWords(*p))
	}
	s.linef("")
	s.row("decided by", "%s", x.Source)
	s.answer("tls-policy", x.TLSPolicy)
	if x.WouldTLSPolicy != x.TLSPolicy {
		s.answer("  would be", x.WouldTLSPolicy)
	}
	if x.TLSPolicyTLSRPT != x.TLSPolicy {
		s.answer("tls-policy-tlsrpt", x.TLSPolicyTLSRPT)
	}
	s.answer("transport", x.Transport)
	if x.WouldTransport != x.Transport {
		s.answer("  would be", x.WouldTransport)
	}
	s.linef("\ntls-policy, why:")
	s.items(x.Why)
	s.linef("transport, why:")
	s.items(x.WhyTransport)
}

func (s *screen) items(list []string) {
	for _, line := range list {
		s.paragraph("  - ", line)
	}
}

func dash(s string) string {
	if s == "" || s == dns.Indeterminate.String() {
		return "-"
	}
	return text.Printable(s)
}

// stsWords shows what is known about the MTA-STS policy of a domain.
func stsWords(p report.STSPolicy) string {
	return p.State + part(", mode ", p.Mode) + part(", mx ", strings.Join(p.MX, " ")) + part(": ", p.Why)
}
