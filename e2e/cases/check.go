package cases

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
)

// checks are receivers that policyd check must find sound, or broken in one way each.
func checks(l *lab.Lab) []Case {
	const smtps, starttls = "smtps-mx.", "starttls-mx."
	witness := l.Host(lab.Host{Name: smtps + "witness.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("witness.test", witness.Name)
	on25 := func(code, domain string, b lab.Behaviour, f lab.Flaw) Case {
		return checked(l, lab.Host{Name: starttls + domain, On25: b, Flaw: f}, code)
	}
	on26 := func(code, domain string, b lab.Behaviour, f lab.Flaw) Case {
		return checked(l, lab.Host{Name: smtps + domain, On25: lab.STARTTLS, On26: b, Flaw26: f}, code)
	}
	return []Case{
		checked(l, lab.Host{Name: smtps + "check-sound.test", On25: lab.STARTTLS, On26: lab.Implicit}, ""),
		checked(l, lab.Host{Name: starttls + "check-starttls.test", On25: lab.STARTTLS}, ""),
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
		filtered(l),
		mismatched(l),
		allowed(l),
		excluded(l),
		unvalidated(l, "bogus.expired.test"),
		byHand(l),
		screens(l),
	}
}

// checkReport is the part of the JSON of policyd check that the cases use.
type checkReport struct {
	Verdict, DNSSEC string
	TLSPolicy       struct{ Text string } `json:"tls_policy"`
	Transport       struct{ Status, Text string }
	Source          string
	MTASTS          struct {
		State, Mode string
		MX          []string
	} `json:"mta_sts"`
	MX []struct {
		Host   string
		MTASTS *bool `json:"mta_sts"`
	}
	Commands []string
	Findings []struct {
		Code, Severity, Host string
		Untested             bool
	}
}

// errors are the codes of that severity, each once.
func (r checkReport) errors() string {
	var codes []string
	for _, f := range r.Findings {
		if f.Severity == "error" && !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	return strings.Join(codes, " ")
}

// runCheck checks several domains and returns the report for the last one.
func runCheck(ctx context.Context, l *lab.Lab, domains ...string) (r checkReport, exit int, err error) {
	output, exit, err := l.Policyd.Run(ctx, append([]string{"check", "--json", "--timeout", "5s"}, domains...)...)
	if err != nil {
		return r, 0, err
	}
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	return r, exit, json.Unmarshal(lines[len(lines)-1], &r)
}

// checked is a domain of one host: sound where code is "", otherwise with that error and no other.
func checked(l *lab.Lab, h lab.Host, code string) Case {
	r := l.Host(h)
	_, domain, _ := strings.Cut(h.Name, ".")
	l.MX(domain, r.Name)
	name := "policyd check: " + code
	if code == "" {
		name = "policyd check: sound, " + h.Name
	}
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		// The witness shows that neither port is filtered on this machine.
		report, exit, err := runCheck(ctx, l, "witness.test", domain)
		if err != nil {
			return "", err
		}
		line := fmt.Sprintf("%s: %s, exit status %d, %s", domain, report.Verdict, exit, report.errors())
		verdict, status := "broken", 1
		if code == "" {
			verdict, status = "kept", 0
		}
		if report.errors() != code || report.Verdict != verdict || exit != status {
			return line, fmt.Errorf("it should be %s, exit status %d, %s", verdict, status, code)
		}
		if want := "secure match=" + r.Name + " servername=hostname"; report.TLSPolicy.Text != want {
			return line, fmt.Errorf("the policy is %q, not %q", report.TLSPolicy.Text, want)
		}
		for _, s := range r.Sessions() {
			if len(s.Mails) > 0 || bytes.Contains(s.Raw, []byte("MAIL FROM")) {
				return line, fmt.Errorf("the check sent a mail")
			}
		}
		return line, nil
	}}
}

// filtered is a black hole without a witness: the firewall of this machine may be the cause.
func filtered(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "starttls-mx.check-p.test", On25: lab.BlackHole})
	l.MX("check-p.test", r.Name)
	return Case{Name: "policyd check: silence without a witness is no failure",
		Run: func(ctx context.Context) (string, error) {
			report, exit, err := runCheck(ctx, l, "check-p.test")
			line := fmt.Sprintf("%s, exit status %d, %s", report.Verdict, exit, report.errors())
			if err == nil && (exit != 3 || report.Verdict != "untested" || report.errors() != "") {
				err = fmt.Errorf("it should be untested, exit status 3")
			}
			return line, err
		}}
}

// mismatched has a TLSA record of another certificate.
func mismatched(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "starttls-mx.check-q.test", On25: lab.STARTTLS})
	l.MX("check-q.test", r.Name)
	l.Records("_25._tcp." + r.Name + ". TLSA 3 1 1 " + strings.Repeat("ab", 32))
	return Case{Name: "policyd check: dane-mismatch", Run: func(ctx context.Context) (string, error) {
		report, exit, err := runCheck(ctx, l, "check-q.test")
		if err == nil && (exit != 1 || report.errors() != "dane-mismatch" || report.TLSPolicy.Text != "dane-only") {
			err = fmt.Errorf("it should be dane-mismatch, exit status 1")
		}
		return fmt.Sprintf("%s, exit status %d, %s", report.Verdict, exit, report.errors()), err
	}}
}

// unvalidated is a domain in a zone that does not validate.
func unvalidated(l *lab.Lab, domain string) Case {
	l.MX(domain, "starttls-mx."+domain)
	return Case{Name: "policyd check: a zone that does not validate", Run: func(ctx context.Context) (string, error) {
		report, exit, err := runCheck(ctx, l, domain)
		line := fmt.Sprintf("%s, exit status %d, DNSSEC %s, %s", report.Verdict, exit, report.DNSSEC, report.errors())
		// Only a resolver that sends an extended error (RFC 8914) distinguishes the two.
		told := exit == 1 && report.errors() == "mx-bogus"
		untold := exit == 3 && report.errors() == ""
		if err == nil && !told && !untold {
			err = fmt.Errorf("it should be bogus, or not be tested")
		}
		return line, err
	}}
}

// byHand runs the commands in the report: Postfix's own tool must reach the same verdict.
func byHand(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.check-s.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("check-s.test", r.Name)
	return Case{Name: "policyd check: posttls-finger finds the same", Run: func(ctx context.Context) (string, error) {
		report, _, err := runCheck(ctx, l, "check-s.test")
		if err != nil {
			return "", err
		}
		if len(report.Commands) != 2 {
			return "", fmt.Errorf("the commands are %q", report.Commands)
		}
		for _, c := range report.Commands {
			said, err := exec.CommandContext(ctx, "/bin/sh", "-c", "PATH=$PATH:/usr/sbin; "+c).CombinedOutput()
			if err != nil || !bytes.Contains(said, []byte("Verified TLS connection established")) {
				return string(said), fmt.Errorf("%s: %w", c, errors.Join(err, errors.New("it should be verified")))
			}
		}
		return strings.Join(report.Commands, "\n"), nil
	}}
}

// screens shows a sound domain and a broken one.
func screens(l *lab.Lab) Case {
	const broken = "smtps-mx.check-r.test"
	r := l.Host(lab.Host{Name: broken, On25: lab.Clear, On26: lab.Implicit, Flaw26: lab.OtherName})
	l.MX("check-r.test", r.Name)
	return Case{Name: "policyd check: the screens", Run: func(ctx context.Context) (string, error) {
		output, _, err := l.Policyd.Run(ctx, "check", "witness.test", "check-r.test")
		if err != nil {
			return "", err
		}
		for _, words := range []string{"witness.test   keeps its promise", "check-r.test   does not work as it should",
			"port25-starttls-missing", "port26-certificate-name", "posttls-finger"} {
			if !bytes.Contains(output, []byte(words)) {
				return string(output), fmt.Errorf("%q is not on the screen", words)
			}
		}
		return string(output), nil
	}}
}
