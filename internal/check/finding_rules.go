package check

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

const soonDays = 14 // automatic renewal happens earlier

// judgement is a finding with a condition.
type judgement struct {
	code   string
	holds  bool
	detail string
}

// judgeAll adds the findings that hold.
func (d *domain) judgeAll(about report.Finding, all []judgement) {
	for _, j := range all {
		if j.holds {
			d.find(j.code, about, j.detail)
		}
	}
}

// judge adds the findings about the domain, its hosts and their connections.
func (d *domain) judge() {
	for _, h := range d.hosts {
		d.judgeHost(h)
		for _, p := range h.ports {
			if p.tested && len(h.addrs) > 0 {
				d.judgePort(h, p)
			}
		}
		d.judgeDANE(h)
	}
	d.judgeAll(report.Finding{}, []judgement{
		{"tested-partly", d.options.NoConnect || d.options.Port25Only, ""},
		{"set-mixed", d.report.Set == "mixed", ""},
		{"no-promise", d.report.Set == "none" && d.report.RRset.State == "found", ""},
		{"mx-address-limit", d.decision.InFront > 0, fmt.Sprintf("%d addresses", d.decision.InFront)},
		{"mx-unsigned", d.report.Set != "none" && d.report.DNSSEC == dns.Insecure.String() &&
			d.report.Resolver.Result == stub.Validating.String(), ""},
		{"tlsrpt-invalid", d.report.TLSRPT.State == "invalid", ""},
	})
	d.judgeMTASTS()
	d.hints()
}

// judgeHost looks at the name of a host and at its addresses.
func (d *domain) judgeHost(h *host) {
	label, _, _ := strings.Cut(h.report.Host, ".")
	invalid := h.report.A == "bogus" || h.report.AAAA == "bogus"
	d.judgeAll(report.Finding{Host: h.report.Host}, []judgement{
		{"mx-host-invalid", !h.report.Valid, ""},
		{"prefix-malformed", h.report.Valid && prefix.Of(h.report.Host) == prefix.None && looksPrefixed(label), ""},
		{"mx-host-alias", h.report.Alias != "", "it is an alias of " + h.report.Alias},
		{"host-address-bogus", invalid, h.report.AddressError},
		{"host-lookup-failed", !invalid && h.report.AddressError != "", h.report.AddressError},
		{"host-no-address", h.report.Valid && h.report.AddressError == "" && len(h.addrs) == 0, ""},
		{"address-too-many", len(h.addrs) > probe.MaxAddresses && !d.options.NoConnect,
			fmt.Sprintf("it has %d", len(h.addrs))},
	})
	for _, a := range h.addrs {
		if !d.options.Special && address.Special(a) {
			d.find("address-special", report.Finding{Host: h.report.Host, Addresses: []string{a.String()}}, "")
		}
	}
}

// looksPrefixed reports whether a label was meant to be a prefix.
func looksPrefixed(label string) bool {
	return slices.ContainsFunc(prefix.Classes(), func(c prefix.Class) bool {
		rest, ok := strings.CutPrefix(label, c.String())
		return ok && (rest == "" || rest[0] == '-' || rest[0] == '_')
	})
}

// judgePort looks at all tests of one port of a host.
func (d *domain) judgePort(h *host, p *port) {
	tested := slices.ContainsFunc(p.transcripts, func(t smtptls.Transcript) bool { return !t.LocalFailure() })
	if !tested {
		why := "its addresses were left out"
		if len(p.transcripts) > 0 {
			why = p.transcripts[0].Why
		}
		d.find(p.codes+"untested", report.Finding{Host: h.report.Host, Port: p.number}, why)
		return
	}
	answered := slices.ContainsFunc(p.transcripts, func(t smtptls.Transcript) bool {
		return !t.LocalFailure() && !t.Silent()
	})
	for i := range p.transcripts {
		t := &p.transcripts[i]
		where := report.Finding{Host: h.report.Host, Addresses: []string{t.Addr.Addr().String()}, Port: p.number}
		reachable := d.endpoints.reachable(portFamilyOf(t.Addr))
		d.judgeAll(where, []judgement{
			{"address-unreachable", t.LocalFailure() || t.Silent() && answered && !reachable, t.Why},
			{"address-silent", t.Silent() && answered && reachable, ""},
			{p.codes + "timeout", t.Silent() && !answered && reachable, ""},
			{p.codes + "untested", t.Silent() && !answered && !reachable, ""},
		})
		if !t.LocalFailure() && !t.Silent() {
			d.judgeDialogue(p.codes, where, t)
		}
	}
}

// judgeDialogue looks at one dialogue: at everything that is wrong with the certificate, and at what failed first. port
// is the prefix of the codes.
func (d *domain) judgeDialogue(port string, where report.Finding, t *smtptls.Transcript) {
	verified := t.Postfix.Verdict == smtptls.Verified
	if s := t.Session; s != nil {
		for _, code := range []string{"certificate-chain", "certificate-expired", "certificate-name"} {
			err := s.Faults[smtptls.Cause(strings.ReplaceAll(code, "-", " "))]
			if err == nil || errors.Is(err, smtptls.ErrNotJudged) {
				continue
			}
			if verified { // Postfix delivers to a host that it has verified
				code = "disputed"
			}
			d.find(port+code, where, text.Printable(strings.TrimPrefix(err.Error(), "x509: ")))
		}
		left := daysLeft(s.NotAfter, d.report.At)
		key, weak := keyOf(s.Chain[0])
		d.judgeAll(where, []judgement{
			{"certificate-expires-soon", left >= 0 && left < soonDays, fmt.Sprintf("on %s UTC, in %d days",
				s.NotAfter.UTC().Format(time.DateTime), left)},
			{"certificate-weak", weak, key},
			{"cipher-weak", strings.HasPrefix(tls.CipherSuiteName(s.Cipher), "TLS_RSA_"), ""},
		})
	}
	code, why := failureCode(t), t.Why
	if code == "starttls-missing" {
		why = ""
	}
	d.judgeAll(where, []judgement{
		{port + "starttls-injection", t.Stray, ""},
		{port + "starttls-first-line", t.OfferedFirst && verified, ""},
		{port + "not-judged", t.OfferedFirst && !verified && t.OK(), "only the first line of EHLO offers STARTTLS"},
		{port + code, code != "", why},
	})
}

// failureCode returns the code, without the port, for what failed first in a dialogue; "" if nothing failed, or only
// the certificate, which has codes of its own.
func failureCode(t *smtptls.Transcript) string {
	switch {
	case t.Failed == smtptls.StepSTARTTLS && !t.Offered:
		return "starttls-missing"
	case t.Failed == smtptls.StepTLS && t.Cause == smtptls.Plaintext:
		return "plaintext"
	case t.Cause == smtptls.NotJudged:
		return "not-judged"
	case t.Cause == smtptls.RefusedByPostfix:
		return "postfix"
	case t.Cause == smtptls.CertificateRules:
		return "certificate-rules"
	}
	return map[smtptls.Step]string{
		smtptls.StepConnect: "refused", smtptls.StepBanner: "banner", smtptls.StepEHLO: "ehlo",
		smtptls.StepTLS: "tls-handshake", smtptls.StepSTARTTLS: "starttls-refused",
		smtptls.StepEHLOAgain: "ehlo-in-tls",
	}[t.Failed]
}

// judgeDANE compares the TLSA records with the certificate of the host.
func (d *domain) judgeDANE(h *host) {
	for _, p := range h.ports {
		where := report.Finding{Host: h.report.Host, Port: p.number}
		// Where the addresses could not be looked up, that is a finding of its own.
		missing := p.implicit && h.ports[0].dane.State == dane.Usable && p.dane.State == dane.Absent
		failed := p.dane.State == dane.Failed && p.dane.Addresses != dns.Indeterminate
		d.judgeAll(where, []judgement{
			{"dane-bogus", failed && bogus(p.dane.Err), p.dane.Why},
			{"dane-lookup-failed", failed && !bogus(p.dane.Err), p.dane.Why},
			{"dane-unusable", p.dane.State == dane.Unusable, ""},
			{"dane-missing-26", missing, ""},
		})
		if missing {
			d.hintTLSA(h, p)
		}
		for _, t := range p.transcripts {
			if t.Session == nil || p.dane.State != dane.Usable {
				continue
			}
			ok := matches(p.dane.Records, t.Session, h.report.Host, d.report.At)
			all := ok && (p.tlsa.Matches == nil || *p.tlsa.Matches)
			p.tlsa.Matches = &all
			where.Addresses = []string{t.Addr.Addr().String()}
			d.judgeAll(where, []judgement{{"dane-mismatch", !ok, ""}})
		}
	}
}

// judgeMTASTS examines whether the MTA-STS policy of the domain allows its hosts.
func (d *domain) judgeMTASTS() {
	sts := d.facts.STS
	found := func(m mtasts.Mode) bool { return sts.State == mtasts.Found && sts.Policy.Mode == m }
	allowed := func(h *host) bool { return sts.Policy.Matches(h.report.Host) }
	none := found(mtasts.Enforce) && len(d.hosts) > 0 && !slices.ContainsFunc(d.hosts, allowed)
	d.judgeAll(report.Finding{}, []judgement{
		{"mta-sts-invalid", sts.State == mtasts.Failed, sts.Why},
		{"mta-sts-testing", found(mtasts.Testing), ""},
		{"mta-sts-excludes-all", none, ""},
	})
	for _, h := range d.hosts {
		if found(mtasts.Enforce) || found(mtasts.Testing) {
			h.report.MTASTS = new(allowed(h))
			if !*h.report.MTASTS && !none {
				d.find("mta-sts-excludes-host", report.Finding{Host: h.report.Host}, "")
			}
		}
	}
}
