package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/prefix"
)

// hints adds findings that suggest what to publish, as lines for a zone file: a record for TLSRPT, and records that
// give a prefix to hosts below the domain that already keep the promise, except for the name in the certificate. The
// TLSA records of a host are included, because it would lose DANE without them.
func (d *domain) hints() {
	if d.report.Set != "none" && d.report.TLSRPT.State == "absent" {
		d.find("publish-tlsrpt", report.Finding{Zone: []string{
			"_smtp._tls." + d.report.Domain + `. IN TXT "v=TLSRPTv1; rua=mailto:tls-reports@` + d.report.Domain + `"`,
		}}, "")
	}
	var zone []string
	for _, h := range d.hosts {
		name := prefix.STARTTLS.Prefix() + h.report.Host
		mismatch := h.report.TLSA.Matches != nil && !*h.report.TLSA.Matches
		if h.report.Prefix != prefix.None.String() || prefix.Of(name) != prefix.STARTTLS ||
			!strings.HasSuffix(h.report.Host, "."+d.report.Domain) || !h.ports[0].keeps() || mismatch {
			continue
		}
		zone = append(zone, fmt.Sprintf("%s. IN MX %d %s.", d.report.Domain, h.report.Preference, name))
		for _, a := range h.addrs {
			recordType := "AAAA"
			if a.Is4() {
				recordType = "A"
			}
			zone = append(zone, fmt.Sprintf("%s. IN %s %s", name, recordType, a))
		}
		for _, t := range h.report.TLSA.Records {
			zone = append(zone, dane.TLSAQuestion(name, prefix.SMTPPort).Name+". IN TLSA "+t)
		}
	}
	if len(zone) > 0 {
		d.find("publish-prefix", report.Finding{Zone: zone}, "")
	}
}

// keeps reports whether a port did all that a prefix promises, at every address where it was tested.
func (p *port) keeps() bool {
	return slices.ContainsFunc(p.transcripts, func(t smtptls.Transcript) bool { return t.OK() }) &&
		!slices.ContainsFunc(p.transcripts, func(t smtptls.Transcript) bool { return !t.OK() && !t.LocalFailure() })
}

// hintTLSA suggests TLSA records for the port of implicit TLS, for a host that has some for port 25 only.
func (d *domain) hintTLSA(h *host, p *port) {
	var zone []string
	for _, t := range p.transcripts {
		if t.Session != nil {
			zone = append(zone, dane.TLSAQuestion(h.report.Host, p.number).Name+". IN TLSA "+record(t.Session.Chain[0]))
		}
	}
	if len(zone) > 0 {
		d.find("publish-tlsa-26", report.Finding{Host: h.report.Host, Port: p.number, Zone: slices.Compact(zone)}, "")
	}
}

// command returns the posttls-finger(1) command that repeats a test manually.
func (d *domain) command(t *test) string {
	roots := cmp.Or(d.options.CAFile, "/etc/ssl/certs/ca-certificates.crt")
	host, addr, wrapper, family := t.dialogue.Host, t.dialogue.Addr, "", ""
	if t.dialogue.Implicit {
		wrapper = " -w"
	}
	if addr.Addr().Is6() {
		family = "ipv6:"
	}
	return fmt.Sprintf(`posttls-finger -c%s -l secure -F %s -s %s "[%s%s]:%d" %s`, wrapper, roots, host, family,
		addr.Addr(), addr.Port(), host)
}
