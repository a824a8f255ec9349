package check

import (
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
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

const soonDays = 14 // automatic renewal happens earlier

// judge adds the findings about the domain, its hosts and their connections.
func (d *domain) judge() {
	for _, h := range d.hosts {
		d.judgeName(h)
		d.judgeAddresses(h)
		for _, implicit := range []bool{false, true} {
			if implicit && (!h.class.ImplicitTLS() || d.o.Port25Only) {
				continue
			}
			d.judgePort(h, implicit)
		}
		d.connections(h)
		d.judgeDANE(h)
	}
	d.judgeSet()
	d.judgeMTASTS()
	if d.TLSRPT.State == "invalid" {
		d.find("tlsrpt-invalid", about{}, "the TLSRPT record has no rua=, or there are several")
	}
	clean := !slices.ContainsFunc(d.Findings,
		func(f report.Finding) bool { return f.Severity == report.Error || essential(&f) })
	if d.Set != "none" && clean && !d.o.NoConnect {
		d.find("promise-kept", about{}, "the promise is kept at every address that was tested")
	}
	d.hints()
}

// judgeName looks at the name of a host.
func (d *domain) judgeName(h *host) {
	name := about{host: h.Host.Host}
	label, _, _ := strings.Cut(h.Host.Host, ".")
	switch {
	case !h.Valid:
		d.find("mx-host-invalid", name, "this is not a host name")
	case h.class == prefix.None && looksPrefixed(label):
		d.find("prefix-malformed", name, "the name resembles a prefix but does not count as one: it promises nothing")
	}
	if h.Alias != "" {
		d.find("mx-host-alias", name, "the host is an alias of "+h.Alias+": the certificate must be for "+h.Host.Host)
	}
}

// looksPrefixed reports whether a label was meant to be a prefix.
func looksPrefixed(label string) bool {
	for _, c := range prefix.Classes() {
		if rest, ok := strings.CutPrefix(label, c.String()); ok && (rest == "" || rest[0] == '-' || rest[0] == '_') {
			return true
		}
	}
	return false
}

func (d *domain) judgeAddresses(h *host) {
	name := about{host: h.Host.Host}
	switch {
	case !h.Valid:
	case h.A == "bogus" || h.AAAA == "bogus":
		d.find("host-address-bogus", name, "the addresses fail DNSSEC validation: "+h.AddressError)
	case h.AddressError != "":
		d.find("host-lookup-failed", name, "the addresses could not be looked up: "+h.AddressError)
	case len(h.addrs) == 0:
		d.find("host-no-address", name, "the host has neither an A nor an AAAA record")
	}
	if d.o.Special {
		return
	}
	for _, a := range h.addrs {
		if address.Special(a) {
			d.find("address-special", about{host: h.Host.Host, addr: a},
				"the address does not belong to the public Internet")
		}
	}
}

// judgePort looks at all tests of one port of a host.
func (d *domain) judgePort(h *host, implicit bool) {
	spoken := h.spoken(implicit)
	if d.o.NoConnect || len(h.addrs) == 0 {
		return
	}
	port, name := d.o.SMTPPort, "port25-"
	if implicit {
		port, name = d.o.Policy.Port, "port26-"
	}
	var reached, ours, silent int
	for i := range spoken {
		switch t := &spoken[i]; {
		case t.Ours:
			ours++
		case t.Silent():
			silent++
		default:
			reached++
		}
	}
	if len(spoken) == ours {
		why := "all its addresses were left out, as requested"
		if ours > 0 {
			why = "no address of it can be reached from here: " + spoken[0].Why
		}
		d.find(name+"untested", about{host: h.Host.Host, port: port}, why)
		return
	}
	for i := range spoken {
		t := &spoken[i]
		where := about{host: h.Host.Host, addr: t.Addr.Addr(), port: port}
		switch {
		case t.Ours:
			d.find("address-unreachable", where, "this address could not be tested from here: "+t.Why)
		case !t.Silent():
			d.judgeDialogue(name, where, t)
		case reached > 0 && !d.endpoints.proven(wayTo(t.Addr.Addr(), port)):
			d.find("address-unreachable", where,
				"this address does not answer, and no address of its family has answered from here yet: there may "+
					"be no route to them on our side")
		case reached > 0:
			d.find("address-silent", where, "this address does not answer, but other addresses of the host do")
		case d.endpoints.proven(wayTo(t.Addr.Addr(), port)):
			d.find(name+"timeout", where, "the port does not answer here, although it does at other addresses")
		default:
			d.find(name+"untested", where,
				"the port does not answer, and has not answered at any other address yet: it may be filtered on our "+
					"side")
		}
	}
}

// judgeDialogue looks at one dialogue.
func (d *domain) judgeDialogue(name string, where about, t *smtptls.Transcript) {
	if t.Session != nil {
		d.judgeSession(name, where, t)
	}
	if t.Stray {
		d.find(name+"starttls-injection", where, "plaintext followed the reply to STARTTLS")
	}
	switch {
	case !t.OfferedFirst:
	case t.Postfix.Verdict == smtptls.Verified:
		d.find(name+"starttls-first-line", where, "only the first line of the EHLO reply offers STARTTLS")
	case t.OK():
		d.find(name+"not-judged", where,
			"only the first line of the EHLO reply offers STARTTLS, and senders differ in whether they read it")
	}
	code, words := map[smtptls.Step]string{
		smtptls.StepConnect: "refused", smtptls.StepBanner: "banner", smtptls.StepEHLO: "ehlo",
		smtptls.StepTLS:      "tls-handshake",
		smtptls.StepSTARTTLS: "starttls-refused", smtptls.StepEHLOAgain: "ehlo-in-tls",
	}[t.Failed], t.Why
	switch {
	case t.Cause == smtptls.NotJudged:
		code = "not-judged"
	case t.Cause == smtptls.RefusedByPostfix:
		code = "postfix"
	case t.Cause == smtptls.CertificateRules:
		code = "certificate-rules"
	case t.Failed == smtptls.StepConnect:
		words = "connection refused"
	case t.Failed == smtptls.StepSTARTTLS && !t.Offered:
		code, words = "starttls-missing", "EHLO does not offer STARTTLS"
	case t.Failed == smtptls.StepTLS && t.Cause == smtptls.Plaintext:
		code, words = "plaintext", "the port speaks plaintext: "+t.Why
	}
	if code != "" {
		d.find(name+code, where, words)
	}
}

// judgeSession looks at the certificate, with everything that is wrong with it, and at the cipher. Postfix delivers
// to a host that it has verified, so a fault that only Go finds is a warning.
func (d *domain) judgeSession(name string, where about, t *smtptls.Transcript) {
	s := t.Session
	codes := []string{"certificate-chain", "certificate-expired", "certificate-name"} // as the causes, with hyphens
	for _, code := range codes {
		switch err := s.Faults[smtptls.Cause(strings.ReplaceAll(code, "-", " "))]; {
		case err == nil, errors.Is(err, smtptls.ErrNotJudged):
		case t.Postfix.Verdict == smtptls.Verified:
			d.find(name+"disputed", where, "Postfix verifies this certificate; policyd does not: "+
				text.Printable(strings.TrimPrefix(err.Error(), "x509: ")))
		default:
			d.find(name+code, where, text.Printable(strings.TrimPrefix(err.Error(), "x509: ")))
		}
	}
	if left := daysLeft(s.NotAfter, d.At); left >= 0 && left < soonDays {
		d.find("certificate-expires-soon", where, fmt.Sprintf("the certificate expires on %s UTC, in %d days",
			s.NotAfter.UTC().Format(time.DateTime), left))
	}
	if len(s.Chain) > 0 && weakKey(s.Chain[0]) {
		d.find("certificate-weak", where, "the key is "+keyName(s.Chain[0]))
	}
	if !forwardSecret(s.Cipher) {
		d.find("cipher-weak", where, "the cipher has no forward secrecy")
	}
}

// judgeDANE compares the TLSA records with what the host showed.
func (d *domain) judgeDANE(h *host) {
	for _, p := range []struct {
		implicit bool
		found    *dane.Result
		shown    *report.TLSA
		port     uint16
	}{{false, &h.dane, &h.TLSA, d.o.SMTPPort}, {true, &h.dane26, h.TLSA26, d.o.Policy.Port}} {
		if p.shown == nil {
			continue
		}
		where := about{host: h.Host.Host, port: p.port}
		switch p.found.State {
		case dane.Failed:
			if p.found.Addresses == dns.Indeterminate {
				break // the addresses could not be looked up, which is a finding of its own
			}
			if bogus(p.found.Err) {
				d.find("dane-bogus", where, "the TLSA records fail DNSSEC validation: "+p.found.Why)
			} else {
				d.find("dane-lookup-failed", where, "the TLSA records could not be looked up: "+p.found.Why)
			}
		case dane.Unusable:
			d.find("dane-unusable", where, "none of the TLSA records can be used")
		case dane.Usable:
			d.matchTLSA(h, p.implicit, where, p.found, p.shown)
		case dane.Unknown, dane.Unreachable, dane.Absent:
		}
	}
	if h.TLSA26 != nil && h.dane.State == dane.Usable && h.dane26.State == dane.Absent {
		d.find("dane-missing-26", about{host: h.Host.Host, port: d.o.Policy.Port},
			"there are TLSA records for port 25 only: senders that support DANE stay there")
	}
}

func (d *domain) matchTLSA(h *host, implicit bool, where about, found *dane.Result, shown *report.TLSA) {
	for _, t := range h.spoken(implicit) {
		if t.Session == nil {
			continue
		}
		ok := matches(found.Records, t.Session, h.Host.Host, d.At)
		all := ok && (shown.Matches == nil || *shown.Matches)
		shown.Matches = &all
		if !ok {
			where.addr = t.Addr.Addr()
			d.find("dane-mismatch", where, "no TLSA record matches the certificate")
		}
	}
}

// judgeSet looks at the hosts together.
func (d *domain) judgeSet() {
	switch {
	case d.Set == "mixed":
		d.find("set-mixed", about{}, "only some MX hosts carry a prefix: mail goes only through those hosts, or waits")
	case d.Set == "none" && d.RRset.State == "found":
		d.find("no-promise", about{}, "no MX host carries a prefix")
	}
	if n := d.decision.InFront; n > 0 {
		d.find("mx-address-limit", about{},
			fmt.Sprintf("%d addresses of MX hosts that senders must skip come before the first that they may use", n))
	}
	if d.Set != "none" && d.DNSSEC == dns.Insecure.String() && d.Resolver.Result == stub.Validating.String() {
		d.find("mx-unsigned", about{}, "the MX RRset is not signed: anyone who can forge DNS can hide the promise")
	}
}

// judgeMTASTS examines whether the MTA-STS policy of the domain allows its hosts.
func (d *domain) judgeMTASTS() {
	sts := d.facts.STS
	switch sts.State {
	case mtasts.Failed:
		d.find("mta-sts-invalid", about{}, "no valid policy was obtained: "+sts.Why)
	case mtasts.Found:
		if sts.Policy.Mode == mtasts.Testing {
			d.find("mta-sts-testing", about{}, "the MTA-STS policy is in testing mode: senders deliver in any case")
		}
	case mtasts.Unknown, mtasts.Absent:
	}
	if sts.State != mtasts.Found || sts.Policy.Mode == mtasts.None || len(d.hosts) == 0 {
		return
	}
	allowed := 0
	for _, h := range d.hosts {
		ok := sts.Policy.Matches(h.Host.Host)
		h.MTASTS = &ok
		if ok {
			allowed++
		}
	}
	if allowed == 0 && sts.Policy.Mode == mtasts.Enforce {
		d.find("mta-sts-excludes-all", about{},
			"the MTA-STS policy allows none of the MX hosts: senders that support it defer")
		return
	}
	for _, h := range d.hosts {
		if !*h.MTASTS {
			d.find("mta-sts-excludes-host", about{host: h.Host.Host}, "the MTA-STS policy does not allow this host")
		}
	}
}
