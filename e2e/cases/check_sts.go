package cases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
)

// allowed is a domain whose MTA-STS policy knows its only MX host.
func allowed(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.check-sts.test", On25: lab.STARTTLS})
	l.MX("check-sts.test", r.Name)
	l.PolicyHost("check-sts.test", "1", lab.STS("enforce", "*.check-sts.test"))
	return Case{Name: "policyd check: MTA-STS enforce", Run: func(ctx context.Context) (string, error) {
		return checkedSTS(ctx, l, "check-sts.test", map[string]bool{r.Name: true})
	}}
}

// excluded is a domain whose MTA-STS policy does not know one of its MX hosts. Mail goes through the other one, so that
// is no error.
func excluded(l *lab.Lab) Case {
	known := l.Host(lab.Host{Name: "mx.check-stsout.test", On25: lab.STARTTLS})
	outside := l.Host(lab.Host{Name: "backup.check-stsout.test", On25: lab.STARTTLS})
	l.MX("check-stsout.test", known.Name, outside.Name)
	l.PolicyHost("check-stsout.test", "1", lab.STS("enforce", known.Name))
	return Case{Name: "policyd check: mta-sts-excludes-host", Run: func(ctx context.Context) (string, error) {
		return checkedSTS(ctx, l, "check-stsout.test", map[string]bool{known.Name: true, outside.Name: false})
	}}
}

// checkedSTS checks a domain that has a policy in mode enforce: it is shown, every host with whether it is allowed, and
// each host that is not is a warning. Both end with exit status 0.
func checkedSTS(ctx context.Context, l *lab.Lab, domain string, hosts map[string]bool) (string, error) {
	report, exit, err := runCheck(ctx, l, domain)
	if err != nil {
		return "", err
	}
	var allowed, warned, excluded []string
	for _, h := range report.MX {
		switch {
		case h.MTASTS == nil || *h.MTASTS != hosts[h.Host]:
			err = errors.Join(err, fmt.Errorf("whether the policy allows %s is wrong", h.Host))
		case *h.MTASTS:
			allowed = append(allowed, h.Host)
		default:
			excluded = append(excluded, h.Host)
		}
	}
	for _, f := range report.Findings {
		if strings.HasPrefix(f.Code, "mta-sts-") {
			warned = append(warned, f.Severity+" "+f.Code+" "+f.Host)
		}
	}
	line := fmt.Sprintf("%s: MTA-STS %s, mode %s, %s, exit status %d, %s", domain, report.MTASTS.State,
		report.MTASTS.Mode, report.TLSPolicy.Text, exit, strings.Join(warned, ", "))
	if len(report.MX) != len(hosts) {
		err = errors.Join(err, fmt.Errorf("%d MX hosts, not %d", len(report.MX), len(hosts)))
	}
	if report.MTASTS.State != "found" || report.MTASTS.Mode != "enforce" || len(report.MTASTS.MX) == 0 {
		err = errors.Join(err, errors.New("the policy is not shown"))
	}
	if want := "secure match=" + strings.Join(allowed, ":") + " servername=hostname"; report.Source != "mta-sts" ||
		report.TLSPolicy.Text != want {
		err = errors.Join(err, fmt.Errorf("the policy is %q by %s, not %q", report.TLSPolicy.Text, report.Source, want))
	}
	for i, h := range excluded {
		excluded[i] = "warning mta-sts-excludes-host " + h
	}
	if exit != 0 || report.errors() != "" || !slices.Equal(warned, excluded) {
		err = errors.Join(err, fmt.Errorf("it should be exit status 0 and %q", excluded))
	}
	return line, err
}
