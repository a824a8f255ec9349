package cases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

// check is a domain, and the report of policyd check about it.
type check struct {
	name   string
	domain string
	hosts  []host
	// sts are the names that its MTA-STS policy in mode enforce allows, separated by spaces.
	sts string
	// alone leaves out the witness, a sound domain whose answers show that this machine filters neither port.
	alone bool
	findings
	// or is another acceptable outcome; the resolver determines which of the two it is.
	or *findings
}

// findings are the contents of a report. A field that is empty in the expected findings is empty in the report too,
// except for the verdict and the policy, which are not compared then.
type findings struct {
	exit            int
	verdict, policy string
	errors          string // the codes, each once
	warnings        string // codes about MTA-STS and their hosts
	sts             string // state, mode and source of the policy, and the hosts that it allows
}

// checkTable lists receivers that policyd check must find sound, or broken in one way each.
func checkTable() []check {
	broken := func(code, domain string, h host) check {
		return check{name: "policyd check: " + code, domain: domain, hosts: []host{h},
			findings: findings{exit: 1, verdict: "broken", errors: code, policy: secure(h.Name + "." + domain)}}
	}
	on25 := func(code, domain string, b lab.Behaviour, f lab.Flaw) check {
		return broken(code, domain, withFlaws(does("starttls-mx", b, lab.Closed), f, f))
	}
	on26 := func(code, domain string, b lab.Behaviour, f lab.Flaw) check {
		return broken(code, domain, withFlaws(does("smtps-mx", lab.STARTTLS, b), lab.Good, f))
	}
	sound := func(domain string, h host) check {
		return check{name: "policyd check: sound, " + h.Name + "." + domain, domain: domain, hosts: []host{h},
			findings: findings{verdict: "kept", policy: secure(h.Name + "." + domain)}}
	}
	mismatch := withTLSA(good("starttls-mx"), "3 1 1 "+strings.Repeat("ab", 32))
	return []check{
		sound("check-sound.test", smtps("smtps-mx")),
		sound("check-starttls.test", good("starttls-mx")),
		on25("port25-refused", "check-a.test", lab.Closed, lab.Good),
		on25("port25-timeout", "check-b.test", lab.BlackHole, lab.Good),
		on25("port25-starttls-missing", "check-c.test", lab.Clear, lab.Good),
		on25("port25-starttls-refused", "check-d.test", lab.Refuses, lab.Good),
		on25("port25-tls-handshake", "check-e.test", lab.StallsTLS, lab.Good),
		on25("port25-certificate-name", "check-f.test", lab.STARTTLS, lab.OtherName),
		on25("port25-certificate-chain", "check-g.test", lab.STARTTLS, lab.SelfSigned),
		on25("port25-certificate-expired", "check-h.test", lab.STARTTLS, lab.ExpiredCert),
		on26("port26-refused", "check-i.test", lab.Closed, lab.Good),
		on26("port26-timeout", "check-j.test", lab.BlackHole, lab.Good),
		on26("port26-plaintext", "check-k.test", lab.Clear, lab.Good),
		on26("port26-tls-handshake", "check-l.test", lab.StallsTLS, lab.Good),
		on26("port26-certificate-name", "check-m.test", lab.Implicit, lab.OtherName),
		on26("port26-certificate-chain", "check-n.test", lab.Implicit, lab.SelfSigned),
		on26("port26-certificate-expired", "check-o.test", lab.Implicit, lab.ExpiredCert),
		// The firewall of this machine may be the cause.
		{name: "policyd check: silence without a witness is not a failure", domain: "check-p.test", alone: true,
			hosts:    []host{does("starttls-mx", lab.BlackHole, lab.Closed)},
			findings: findings{exit: 3, verdict: "untested"}},
		{name: "policyd check: dane-mismatch", domain: "check-q.test", hosts: []host{mismatch},
			findings: findings{exit: 1, errors: "dane-mismatch", policy: "dane-only"}},
		{name: "policyd check: MTA-STS enforce", domain: "check-sts.test", hosts: []host{good("mx")},
			sts: "*.check-sts.test", findings: findings{policy: secure("mx.check-sts.test"),
				sts: "found enforce mta-sts: mx.check-sts.test"}},
		// Mail goes through the other host, so an excluded host is only a warning.
		{name: "policyd check: mta-sts-excludes-host", domain: "check-stsout.test",
			hosts: []host{good("mx"), good("backup")}, sts: "mx.check-stsout.test",
			findings: findings{policy: secure("mx.check-stsout.test"),
				sts:      "found enforce mta-sts: mx.check-stsout.test",
				warnings: "warning mta-sts-excludes-host backup.check-stsout.test"}},
		// Only a resolver that sends an extended error (RFC 8914) distinguishes a bogus zone from a failure.
		{name: "policyd check: a zone that does not validate", domain: "bogus.expired.test",
			hosts: []host{does("starttls-mx", lab.Closed, lab.Closed)}, alone: true,
			findings: findings{exit: 1, errors: "mx-bogus"}, or: &findings{exit: 3}},
	}
}

func (c check) build(l *lab.Lab) Case {
	receivers, names := addHosts(l, c.domain, c.hosts)
	l.MX(c.domain, names...)
	if c.sts != "" {
		l.PolicyHost(c.domain, "1", lab.STS("enforce", strings.Fields(c.sts)...))
	}
	domains := []string{"witness.test", c.domain}
	if c.alone {
		domains = domains[1:]
	}
	return Case{Name: c.name, Run: func(ctx context.Context) string {
		report, exit := runCheck(ctx, l, domains...)
		got := report.findings(exit)
		must.Be(got.fits(c.findings) || c.or != nil && got.fits(*c.or), "the report has %+v, not %+v", got, c.findings)
		for _, r := range receivers {
			must.Be(!r.Seen("MAIL FROM"), "the check sent a mail")
			for _, s := range r.Sessions() {
				must.Be(len(s.Mails) == 0, "the check sent a mail")
			}
		}
		return fmt.Sprintf("%s: %s, exit status %d, %s %s %s", c.domain, got.verdict, got.exit, got.errors,
			got.warnings, got.sts)
	}}
}

// checkReport is the part of the JSON of policyd check that the cases use.
type checkReport struct {
	Verdict   string
	TLSPolicy struct{ Text string } `json:"tls_policy"`
	Source    string
	MTASTS    struct {
		State, Mode string
		MX          []string
	} `json:"mta_sts"`
	MX []struct {
		Host   string
		MTASTS *bool `json:"mta_sts"`
	}
	Commands []string
	Findings []struct{ Code, Severity, Host string }
}

// runCheck checks several domains and returns the report for the last one.
func runCheck(ctx context.Context, l *lab.Lab, domains ...string) (r checkReport, exit int) {
	output, exit, err := l.Policyd.Run(ctx, append([]string{"check", "--json", "--timeout", "5s"}, domains...)...)
	must.Do(err)
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	must.Do(json.Unmarshal(lines[len(lines)-1], &r))
	return r, exit
}

func (r checkReport) findings(exit int) findings {
	got := findings{exit: exit, verdict: r.Verdict, policy: r.TLSPolicy.Text}
	var codes, warnings []string
	for _, f := range r.Findings {
		switch {
		case strings.HasPrefix(f.Code, "mta-sts-"):
			warnings = append(warnings, f.Severity+" "+f.Code+" "+f.Host)
		case f.Severity == "error" && !slices.Contains(codes, f.Code):
			codes = append(codes, f.Code)
		}
	}
	got.errors, got.warnings = strings.Join(codes, " "), strings.Join(warnings, ", ")
	if len(r.MTASTS.MX) > 0 {
		got.sts = r.MTASTS.State + " " + r.MTASTS.Mode + " " + r.Source + ":"
		for _, h := range r.MX {
			if h.MTASTS == nil {
				got.sts += " unknown:" + h.Host
			} else if *h.MTASTS {
				got.sts += " " + h.Host
			}
		}
	}
	return got
}

func (f findings) fits(want findings) bool {
	if want.verdict == "" {
		f.verdict = ""
	}
	if want.policy == "" {
		f.policy = ""
	}
	return f == want
}

// byHand runs the commands in the report: Postfix's own tool must reach the same verdict.
func byHand(l *lab.Lab) Case {
	mail{domain: "check-s.test", hosts: []host{smtps("smtps-mx")}}.build(l)
	return Case{Name: "policyd check: posttls-finger finds the same", Run: func(ctx context.Context) string {
		report, _ := runCheck(ctx, l, "check-s.test")
		must.Be(len(report.Commands) == 2, "the report does not have two commands")
		for _, c := range report.Commands {
			contains(must.Get(daemon.Output(ctx, "", "sh", "-c", c)), "Verified TLS connection established")
		}
		return strings.Join(report.Commands, "\n")
	}}
}

func screens(l *lab.Lab) Case {
	broken := withFlaws(does("smtps-mx", lab.Clear, lab.Implicit), lab.Good, lab.OtherName)
	mail{domain: "check-r.test", hosts: []host{broken}}.build(l)
	return Case{Name: "policyd check: the screens", Run: func(ctx context.Context) string {
		output, _, err := l.Policyd.Run(ctx, "check", "witness.test", "check-r.test")
		must.Do(err)
		contains(string(output), "witness.test   keeps its promise", "check-r.test   does not work as it should",
			"port25-starttls-missing", "port26-certificate-name", "posttls-finger")
		return string(output)
	}}
}
