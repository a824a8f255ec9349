package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/prefix"
)

// hints say what to publish, as lines for a zone file: a record for reports, and those that give a prefix to hosts
// below the domain that keep the promise already, except for the name in the certificate. TLSA records go with a host,
// because it would lose DANE without them.
func (d *domain) hints() {
	if d.Set != "none" && d.TLSRPT.State == "absent" {
		d.find("publish-tlsrpt", report.Finding{Zone: []string{
			"_smtp._tls." + d.Domain + `. IN TXT "v=TLSRPTv1; rua=mailto:tls-reports@` + d.Domain + `"`,
		}}, "")
	}
	var zone []string
	for _, h := range d.hosts {
		name := prefix.STARTTLS.Prefix() + h.Host.Host
		mismatch := h.TLSA.Matches != nil && !*h.TLSA.Matches
		if h.Prefix != prefix.None.String() || prefix.Of(name) != prefix.STARTTLS ||
			!strings.HasSuffix(h.Host.Host, "."+d.Domain) || !h.ports[0].keeps() || mismatch {
			continue
		}
		zone = append(zone, fmt.Sprintf("%s. IN MX %d %s.", d.Domain, h.Preference, name))
		for _, a := range h.addrs {
			kind := map[bool]string{true: "A", false: "AAAA"}[a.Is4()]
			zone = append(zone, fmt.Sprintf("%s. IN %s %s", name, kind, a))
		}
		for _, t := range h.TLSA.Records {
			zone = append(zone, dane.TLSAQuestion(name, policy.SMTPPort).Name+". IN TLSA "+t)
		}
	}
	if len(zone) > 0 {
		d.find("publish-prefix", report.Finding{Zone: zone}, "")
	}
}

// keeps reports whether a port did all that a prefix promises of it, wherever it was tested.
func (p *port) keeps() bool {
	return slices.ContainsFunc(p.heard, func(t smtptls.Transcript) bool { return t.OK() }) &&
		!slices.ContainsFunc(p.heard, func(t smtptls.Transcript) bool { return !t.OK() && !t.LocalFailure() })
}

// hintTLSA shows the TLSA records for the port of implicit TLS where there are some for port 25 only.
func (d *domain) hintTLSA(h *host, p *port) {
	var zone []string
	for _, t := range p.heard {
		if t.Session != nil {
			zone = append(zone, dane.TLSAQuestion(h.Host.Host, p.number).Name+". IN TLSA "+record(t.Session.Chain[0]))
		}
	}
	if len(zone) > 0 {
		d.find("publish-tlsa-26", report.Finding{Host: h.Host.Host, Port: p.number, Zone: slices.Compact(zone)}, "")
	}
}

// command returns the posttls-finger(1) command that repeats a test manually.
func (d *domain) command(t *test) string {
	roots := cmp.Or(d.o.CAFile, "/etc/ssl/certs/ca-certificates.crt")
	wrapper := map[bool]string{true: " -w"}[t.Implicit]
	family := map[bool]string{true: "ipv6:"}[t.Addr.Addr().Is6()]
	return fmt.Sprintf(`posttls-finger -c%s -l secure -F %s -s %s "[%s%s]:%d" %s`, wrapper, roots, t.Host, family,
		t.Addr.Addr(), t.Addr.Port(), t.Host)
}
