package check

import (
	"cmp"
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

// judgement is a finding where it holds.
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
		{"tested-partly", d.o.NoConnect || d.o.Port25Only, ""},
		{"set-mixed", d.Set == "mixed", ""},
		{"no-promise", d.Set == "none" && d.RRset.State == "found", ""},
		{"mx-address-limit", d.decision.InFront > 0, fmt.Sprintf("%d addresses", d.decision.InFront)},
		{"mx-unsigned", d.Set != "none" && d.DNSSEC == dns.Insecure.String() &&
			d.Resolver.Result == stub.Validating.String(), ""},
		{"tlsrpt-invalid", d.TLSRPT.State == "invalid", ""},
	})
	d.judgeMTASTS()
	d.hints()
}

// judgeHost looks at the name of a host and at its addresses.
func (d *domain) judgeHost(h *host) {
	label, _, _ := strings.Cut(h.Host.Host, ".")
	bogus := h.A == "bogus" || h.AAAA == "bogus"
	d.judgeAll(report.Finding{Host: h.Host.Host}, []judgement{
		{"mx-host-invalid", !h.Valid, ""},
		{"prefix-malformed", h.Valid && prefix.Of(h.Host.Host) == prefix.None && looksPrefixed(label), ""},
		{"mx-host-alias", h.Alias != "", "it is an alias of " + h.Alias},
		{"host-address-bogus", bogus, h.AddressError},
		{"host-lookup-failed", !bogus && h.AddressError != "", h.AddressError},
		{"host-no-address", h.Valid && h.AddressError == "" && len(h.addrs) == 0, ""},
		{"address-too-many", len(h.addrs) > probe.MaxAddresses && !d.o.NoConnect,
			fmt.Sprintf("it has %d", len(h.addrs))},
	})
	for _, a := range h.addrs {
		if !d.o.Special && address.Special(a) {
			d.find("address-special", report.Finding{Host: h.Host.Host, Addresses: []string{a.String()}}, "")
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
	if why := "its addresses were left out"; !slices.ContainsFunc(p.heard,
		func(t smtptls.Transcript) bool { return !t.LocalFailure() }) {
		if len(p.heard) > 0 {
			why = p.heard[0].Why
		}
		d.find(p.codes+"untested", report.Finding{Host: h.Host.Host, Port: p.number}, why)
		return
	}
	reached := slices.ContainsFunc(p.heard, func(t smtptls.Transcript) bool { return !t.LocalFailure() && !t.Silent() })
	for i := range p.heard {
		t := &p.heard[i]
		where := report.Finding{Host: h.Host.Host, Addresses: []string{t.Addr.Addr().String()}, Port: p.number}
		proven := d.endpoints.proven(wayTo(t.Addr))
		d.judgeAll(where, []judgement{
			{"address-unreachable", t.LocalFailure() || t.Silent() && reached && !proven, t.Why},
			{"address-silent", t.Silent() && reached && proven, ""},
			{p.codes + "timeout", t.Silent() && !reached && proven, ""},
			{p.codes + "untested", t.Silent() && !reached && !proven, ""},
		})
		if !t.LocalFailure() && !t.Silent() {
			d.judgeDialogue(p.codes, where, t)
		}
	}
}

// judgeDialogue looks at one dialogue: at everything that is wrong with the certificate, and at what failed first.
func (d *domain) judgeDialogue(name string, where report.Finding, t *smtptls.Transcript) {
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
			d.find(name+code, where, text.Printable(strings.TrimPrefix(err.Error(), "x509: ")))
		}
		left := daysLeft(s.NotAfter, d.At)
		key, weak := keyOf(s.Chain[0])
		d.judgeAll(where, []judgement{
			{"certificate-expires-soon", left >= 0 && left < soonDays, fmt.Sprintf("on %s UTC, in %d days",
				s.NotAfter.UTC().Format(time.DateTime), left)},
			{"certificate-weak", weak, key},
			{"cipher-weak", strings.HasPrefix(tls.CipherSuiteName(s.Cipher), "TLS_RSA_"), ""},
		})
	}
	why := t.Why
	code := cmp.Or(map[smtptls.Cause]string{
		smtptls.NotJudged: "not-judged", smtptls.RefusedByPostfix: "postfix",
		smtptls.CertificateRules: "certificate-rules",
	}[t.Cause], map[smtptls.Step]string{
		smtptls.StepConnect: "refused", smtptls.StepBanner: "banner", smtptls.StepEHLO: "ehlo",
		smtptls.StepTLS: "tls-handshake", smtptls.StepSTARTTLS: "starttls-refused",
		smtptls.StepEHLOAgain: "ehlo-in-tls",
	}[t.Failed])
	switch {
	case t.Failed == smtptls.StepSTARTTLS && !t.Offered:
		code, why = "starttls-missing", ""
	case t.Failed == smtptls.StepTLS && t.Cause == smtptls.Plaintext:
		code = "plaintext"
	}
	d.judgeAll(where, []judgement{
		{name + "starttls-injection", t.Stray, ""},
		{name + "starttls-first-line", t.OfferedFirst && verified, ""},
		{name + "not-judged", t.OfferedFirst && !verified && t.OK(), "only the first line of EHLO offers STARTTLS"},
		{name + code, code != "", why},
	})
}

// judgeDANE compares the TLSA records with what the host showed.
func (d *domain) judgeDANE(h *host) {
	for _, p := range h.ports {
		where := report.Finding{Host: h.Host.Host, Port: p.number}
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
		for _, t := range p.heard {
			if t.Session == nil || p.dane.State != dane.Usable {
				continue
			}
			ok := matches(p.dane.Records, t.Session, h.Host.Host, d.At)
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
	allowed := func(h *host) bool { return sts.Policy.Matches(h.Host.Host) }
	none := found(mtasts.Enforce) && len(d.hosts) > 0 && !slices.ContainsFunc(d.hosts, allowed)
	d.judgeAll(report.Finding{}, []judgement{
		{"mta-sts-invalid", sts.State == mtasts.Failed, sts.Why},
		{"mta-sts-testing", found(mtasts.Testing), ""},
		{"mta-sts-excludes-all", none, ""},
	})
	for _, h := range d.hosts {
		if found(mtasts.Enforce) || found(mtasts.Testing) {
			h.MTASTS = new(allowed(h))
			if !*h.MTASTS && !none {
				d.find("mta-sts-excludes-host", report.Finding{Host: h.Host.Host}, "")
			}
		}
	}
}
