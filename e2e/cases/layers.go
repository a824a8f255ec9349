package cases

import (
	"context"
	"errors"
	"fmt"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/lab/zone"
	"github.com/policyd/policyd/socketmap"
)

// layers are domains with DANE, MTA-STS, prefixes, and several of them.
func layers(l *lab.Lab) []Case { return append(build(l, layerMails()), stsRotated(l)) }

// stsRotated moves to another host while the old policy is valid for a week.
func stsRotated(l *lab.Lab) Case {
	before := l.Host(lab.Host{Name: "before.rotated.test", On25: lab.STARTTLS})
	after := l.Host(lab.Host{Name: "after.rotated.test", On25: lab.STARTTLS})
	l.Records("rotated.test. 1 MX 10 " + before.Name + ".")
	web := l.PolicyHost("rotated.test", "1", lab.STS("enforce", before.Name))
	return Case{Name: "MTA-STS rotated: the new host is used immediately",
		Run: func(ctx context.Context) (string, error) {
			if _, line, err := attempt(ctx, l, verified(before.Name), "first@rotated.test"); err != nil {
				return line, err
			}
			web.Set(lab.STS("enforce", after.Name))
			err := errors.Join(
				l.Replace(ctx, zone.RRset{Owner: "_mta-sts.rotated.test.", Type: "TXT", TTL: 1,
					Data: []string{fmt.Sprintf("%q", lab.Announcement("2"))}}),
				l.Replace(ctx, zone.RRset{Owner: "rotated.test.", Type: "MX", TTL: 1,
					Data: []string{"10 " + after.Name + "."}}))
			if err != nil {
				return "", err
			}
			// Both records have a TTL of one second.
			wanted := "secure match=" + after.Name + " servername=hostname"
			err = l.Policyd.Until(ctx, socketmap.Request{Map: "tls-policy", Key: "rotated.test"},
				func(r socketmap.Reply) bool { return r.Text == wanted })
			if err != nil {
				return "", err
			}
			m, line, err := attempt(ctx, l, verified(after.Name), "second@rotated.test")
			if err != nil {
				return line, err
			}
			return line, received(after, m)
		}}
}
