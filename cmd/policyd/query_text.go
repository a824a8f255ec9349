package main

import (
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/text"
)

// queryLabel is the left column of the screens of query and cache get.
const queryLabel = "%-10s  "

// explanation shows one next hop. port is that of implicit TLS.
func (s *screen) explanation(x lookup.Explanation, port int) {
	s.label = queryLabel
	s.paragraph("", summary(x))
	head := "\n" + s.bold(x.Nexthop)
	switch {
	case strings.HasPrefix(x.Nexthop, "["):
		// This very host, whatever the MX RRset is.
	case len(x.MX) > 0:
		head += "   MX RRset: " + x.DNSSEC
	case x.DNSSEC != dns.Indeterminate.String():
		head += "   MX RRset: " + x.DNSSEC + ", no hosts"
	}
	s.linef("%s", head)
	if len(x.MX) > 0 {
		s.linef("")
		rows := [][]string{{"PREF", "HOST", "PREFIX", "DNSSEC", "DANE", "PROBE"}}
		for _, h := range x.MX {
			dane, probe := h.DANE, h.Probe
			if h.DANE26 != "" && h.DANE26 != h.DANE {
				dane = fmt.Sprintf("%s, on %d %s", h.DANE, port, h.DANE26)
			}
			if h.ProbeCause != "" {
				probe += ": " + h.ProbeCause
			}
			rows = append(rows, []string{
				fmt.Sprint(h.Preference), text.Printable(h.Host), h.Prefix, dash(h.DNSSEC), dash(dane), dash(probe),
			})
		}
		s.table(rows)
	}
	if p := x.MTASTS; p != nil {
		s.linef("")
		s.row("MTA-STS", "%s", stsWords(p.State, p.Mode, p.MX, p.Why))
	}
	s.linef("")
	s.row("decided by", "%s", x.Source)
	s.answer("tls-policy", x.TLSPolicy.Status, x.TLSPolicy.Text)
	if x.WouldTLSPolicy != x.TLSPolicy {
		s.answer("  would be", x.WouldTLSPolicy.Status, x.WouldTLSPolicy.Text)
	}
	if x.TLSPolicyTLSRPT != x.TLSPolicy {
		s.answer("tls-policy-tlsrpt", x.TLSPolicyTLSRPT.Status, x.TLSPolicyTLSRPT.Text)
	}
	s.answer("transport", x.Transport.Status, x.Transport.Text)
	if x.WouldTransport != x.Transport {
		s.answer("  would be", x.WouldTransport.Status, x.WouldTransport.Text)
	}
	s.linef("")
	for _, list := range []struct {
		title string
		why   []string
	}{{"tls-policy, why:", x.Why}, {"transport, why:", x.WhyTransport}} {
		s.linef("%s", list.title)
		for _, line := range list.why {
			s.paragraph("  - ", line)
		}
	}
}

func dash(s string) string {
	if s == "" || s == dns.Indeterminate.String() {
		return "-"
	}
	return text.Printable(s)
}

// stsWords shows what is known about the MTA-STS policy of a domain.
func stsWords(state, mode string, mx []string, why string) string {
	words := state
	if mode != "" {
		words += ", mode " + mode
	}
	if len(mx) > 0 {
		words += ", mx " + strings.Join(mx, " ")
	}
	if why != "" {
		words += ": " + why
	}
	return words
}
