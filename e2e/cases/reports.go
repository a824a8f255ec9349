package cases

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
)

// ReportSettings are main.cf for a Postfix that knows TLSRPT (3.10 and later).
const ReportSettings = `smtp_tls_policy_maps = texthash:/lab/policies, socketmap:inet:` + lab.PolicydAddr + `:tls-policy-tlsrpt
smtp_tlsrpt_enable = yes
smtp_tlsrpt_socket_name = ` + lab.ReportSocket + `
`

// BuildReports adds to the lab what the cases with TLSRPT need.
func BuildReports(l *lab.Lab) []Phase {
	l.CollectReports()
	return []Phase{
		{Name: "promises", Port26: "always", Cases: promises(l)},
		{Name: "layers", Port26: "probe", Cases: append(layers(l), reports(l)...)},
	}
}

// reports are what Postfix sends to a TLSRPT collector (RFC 8460): which policy it got from policyd.
func reports(l *lab.Lab) []Case {
	return []Case{
		stsReported(l, "TLSRPT: an MTA-STS policy that is kept", "ststold.test", lab.STARTTLS),
		stsReported(l, "TLSRPT: an MTA-STS policy that is broken", "stsbroken.test", lab.Clear),
		prefixReported(l),
		bothReported(l),
		testingReported(l),
		unenforced(l, "may.test", lab.OtherName,
			"{ policy_string = version: STSv1 } { policy_string = mode: testing } "+
				"{ policy_string = mx: mx.may.test } { policy_string = max_age: 86400 } mx_host_pattern=mx.may.test"),
		unenforced(l, "nofetch.test", lab.Good, "policy_failure=sts-policy-fetch-error"),
	}
}

// bothReported has a prefix and an enforced policy: Postfix 3.10.5 and later connect only to the hosts that both allow.
func bothReported(l *lab.Lab) Case {
	plain := l.Host(lab.Host{Name: "mx.twice.test", On25: lab.STARTTLS})
	r := l.Host(lab.Host{Name: "starttls-mx.twice.test", On25: lab.STARTTLS})
	l.MX("twice.test", plain.Name, r.Name)
	l.PolicyHost("twice.test", "1", lab.STS("enforce", "*.twice.test"))
	collected(l, "twice.test")
	return Case{Name: "TLSRPT: a prefix with an enforced policy", Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, verified(r.Name), "someone@twice.test")
		if err != nil {
			return line, err
		}
		report, err := l.Report(ctx, "twice.test")
		return line + "\n" + report, errors.Join(err, says(report, `"policy-type":2`, `"mx: *.twice.test"`,
			`"mx-host":["`+r.Name+`"]`))
	}}
}

// testingReported has a policy in mode testing: policyd finds no honest report for it (docs/decisions/0008).
func testingReported(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.trial.test", On25: lab.STARTTLS, Flaw: lab.OtherName})
	l.MX("trial.test", r.Name)
	l.PolicyHost("trial.test", "1", lab.STS("testing", r.Name))
	collected(l, "trial.test")
	return Case{Name: "TLSRPT: a policy in mode testing is reported as no policy",
		Run: func(ctx context.Context) (string, error) {
			_, line, err := attempt(ctx, l, want{status: "sent"}, "someone@trial.test")
			if err != nil {
				return line, err
			}
			report, err := l.Report(ctx, "trial.test")
			return line + "\n" + report, errors.Join(err, says(report, `"policy-type":9`))
		}}
}

// unenforced shows what docs/decisions/0008 rests on: with the attributes of an MTA-STS policy at the level may,
// Postfix reports a success whatever is wrong.
func unenforced(l *lab.Lab, domain string, f lab.Flaw, attributes string) Case {
	r := l.Host(lab.Host{Name: "mx." + domain, On25: lab.STARTTLS, Flaw: f})
	l.MX(domain, r.Name)
	collected(l, domain)
	l.Policy(domain, "may policy_type=sts policy_domain="+domain+" "+attributes)
	return Case{Name: "TLSRPT: Postfix reports success for " + domain, Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, want{status: "sent"}, "someone@"+domain)
		if err != nil {
			return line, err
		}
		report, err := l.Report(ctx, domain)
		return line + "\n" + report, errors.Join(err, says(report, `"policy-type":2`, `"t":0,"f":0`))
	}}
}

// collected has a domain ask for reports.
func collected(l *lab.Lab, domain string) {
	l.Records("_smtp._tls." + domain + ". TXT \"v=TLSRPTv1; rua=mailto:reports@" + domain + "\"")
}

// says checks that a report has all the words in it.
func says(report string, words ...string) error {
	for _, w := range words {
		if !strings.Contains(report, w) {
			return fmt.Errorf("the report has no %q in it: %s", w, report)
		}
	}
	return nil
}

func stsReported(l *lab.Lab, name, domain string, b lab.Behaviour) Case {
	r := l.Host(lab.Host{Name: "mx." + domain, On25: b})
	l.MX(domain, r.Name)
	l.PolicyHost(domain, "1", lab.STS("enforce", r.Name))
	collected(l, domain)
	w := verified(r.Name)
	if b == lab.Clear {
		w = want{status: "deferred", reason: "TLS is required"}
	}
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, w, "someone@"+domain)
		if err != nil {
			return line, err
		}
		report, err := l.Report(ctx, domain)
		line += "\n" + report
		if err != nil {
			return line, err
		}
		// Type 2 is MTA-STS, in the words of libtlsrpt.
		return line, says(report, `"policy-type":2`, `"policy-domain":"`+domain+`"`, `"version: STSv1"`,
			`"mode: enforce"`, `"mx: `+r.Name+`"`)
	}}
}

// prefixReported has a policy that no report knows of: Postfix says that it found none.
func prefixReported(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "starttls-mx.told.test", On25: lab.STARTTLS})
	l.MX("told.test", r.Name)
	collected(l, "told.test")
	return Case{Name: "TLSRPT: a prefix is reported as no policy", Run: func(ctx context.Context) (string, error) {
		_, line, err := attempt(ctx, l, verified(r.Name), "someone@told.test")
		if err != nil {
			return line, err
		}
		report, err := l.Report(ctx, "told.test")
		line += "\n" + report
		return line, errors.Join(err, says(report, `"policy-type":9`))
	}}
}
