package cases

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/lab/zone"
	"github.com/policyd/policyd/socketmap"
)

// losses stop policyd, its resolver or a policy host while mail flows.
func losses(l *lab.Lab) []Case {
	return []Case{killed(l), stsKept(l), resolver(l, false), resolver(l, true)}
}

// killed ends policyd in the middle of a stream of mail and starts it again on the listener that was open all the time.
func killed(l *lab.Lab) Case {
	const mails, senders = 60, 4
	r := l.Host(lab.Host{Name: "starttls-mx.stream.test", On25: lab.STARTTLS})
	l.MX("stream.test", r.Name)
	return Case{Name: "policyd killed and started again under mail: nothing is lost",
		Run: func(ctx context.Context) (string, error) {
			sent := make([]*lab.Sent, mails)
			var restarted error
			var group errgroup.Group
			group.SetLimit(senders)
			for i := range mails {
				group.Go(func() error {
					var err error
					sent[i], err = l.Postfix.Send(ctx, fmt.Sprintf("nr%d@stream.test", i))
					return err
				})
				if i == mails/3 {
					// Postfix keeps asking.
					l.Policyd.Kill()
					restarted = l.Policyd.Start(ctx)
				}
			}
			if err := errors.Join(group.Wait(), restarted); err != nil {
				return "", err
			}
			retries := 0
			for _, m := range sent {
				again, err := arrive(ctx, m, verified(r.Name))
				if err != nil {
					return "", err
				}
				retries += again
				if err := received(r, m); err != nil {
					return "", err
				}
			}
			return fmt.Sprintf("%d mails sent, %d received once each under Verified TLS, %d retries", mails, mails,
				retries), nil
		}}
}

// arrive waits until a mail is delivered, retries it when it is deferred, and returns the number of retries.
func arrive(ctx context.Context, m *lab.Sent, w want) (int, error) {
	const most = 5
	for again := range most {
		d, err := m.Wait(ctx)
		if err != nil {
			return again, err
		}
		if d.Status != "deferred" {
			return again, w.check(d)
		}
		if err := m.Retry(ctx); err != nil {
			return again, err
		}
	}
	return most, errors.New("it was deferred every time")
}

// stsKept ends policyd, the policy host and STARTTLS at the receiver: the policy, which is valid for a week, still
// holds.
func stsKept(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.stskept.test", On25: lab.STARTTLS})
	l.MX("stskept.test", r.Name)
	web := l.PolicyHost("stskept.test", "1", lab.STS("enforce", r.Name))
	return Case{Name: "MTA-STS host down, policyd killed, STARTTLS stripped: still enforced",
		Run: func(ctx context.Context) (string, error) {
			if _, line, err := attempt(ctx, l, verified(r.Name), "first@stskept.test"); err != nil {
				return line, err
			}
			l.Policyd.Kill()
			web.Close()
			if err := errors.Join(r.Serve(25, lab.Service{Behaviour: lab.Clear}), l.Policyd.Start(ctx)); err != nil {
				return "", err
			}
			m, line, err := attempt(ctx, l, want{status: "deferred", reason: "TLS is required"}, "second@stskept.test")
			if err != nil {
				return line, err
			}
			return line, untouched(r, m)
		}}
}

// resolver stops policyd's resolver: it is silent, or its port refuses. Cached answers are still used, and no route is
// waited for.
func resolver(l *lab.Lab, gone bool) Case {
	tag, how := "silent", "resolver silent"
	away, back := l.Upstream.Freeze, l.Upstream.Thaw
	if gone {
		tag, how = "gone", "resolver dead"
		away, back = l.Upstream.Kill, l.Upstream.Start
	}
	known := l.Host(lab.Host{Name: "starttls-mx.known-" + tag + ".test", On25: lab.STARTTLS})
	l.MX("known-"+tag+".test", known.Name)
	fresh := l.Host(lab.Host{Name: "starttls-mx.fresh-" + tag + ".test", On25: lab.STARTTLS})
	l.MX("fresh-"+tag+".test", fresh.Name)
	return Case{Name: how + ": routes within 300 ms, known domains verified, others wait",
		Run: func(ctx context.Context) (string, error) {
			if _, line, err := attempt(ctx, l, verified(known.Name), "someone@known-"+tag+".test"); err != nil {
				return line, err
			}
			away()
			slowest, failed := slowestRoute(ctx, l, tag)
			_, line, err := attempt(ctx, l, verified(known.Name), "again@known-"+tag+".test")
			failed = errors.Join(failed, err)
			m, waits, err := attempt(ctx, l, want{status: "deferred"}, "someone@fresh-"+tag+".test")
			if err = errors.Join(failed, err, back(ctx)); err != nil {
				return line, err
			}
			if err := untouched(fresh, m); err != nil {
				return waits, err
			}
			// The resolver is back: the deferred mail is delivered.
			err = l.Policyd.Until(ctx, socketmap.Request{Map: "tls-policy", Key: "fresh-" + tag + ".test"},
				func(r socketmap.Reply) bool {
					return r.Status == socketmap.StatusOK
				})
			if err != nil {
				return "", err
			}
			if err := m.Retry(ctx); err != nil {
				return "", err
			}
			if _, err := arrive(ctx, m, verified(fresh.Name)); err != nil {
				return "", err
			}
			return fmt.Sprintf("slowest route %v\nknown: %s\nunknown: %s", slowest.Round(time.Millisecond), line,
				waits), received(fresh, m)
		}}
}

// slowestRoute asks for the routes of unknown names and returns how long the slowest took. A busy machine can delay an
// answer, so there are several rounds, of which one must be fast throughout.
func slowestRoute(ctx context.Context, l *lab.Lab, tag string) (time.Duration, error) {
	const rounds, limit = 6, 300 * time.Millisecond
	var slowest time.Duration
	for round := range rounds {
		var err error
		if slowest, err = roundOfRoutes(ctx, l, fmt.Sprintf("%s-%d", tag, round)); err != nil {
			return slowest, err
		}
		if slowest <= limit {
			return slowest, nil
		}
	}
	return slowest, fmt.Errorf("a route took %v", slowest)
}

func roundOfRoutes(ctx context.Context, l *lab.Lab, tag string) (time.Duration, error) {
	const questions = 20
	var slowest time.Duration
	for i := range questions {
		begun := time.Now()
		reply, err := l.Policyd.Ask(ctx, socketmap.Request{Map: "transport", Key: fmt.Sprintf("someone@unknown-%s-%d.test", tag, i)})
		took := time.Since(begun)
		if err != nil {
			return 0, err
		}
		if reply.Status != socketmap.StatusNotFound {
			return 0, fmt.Errorf("policyd gives a route without a resolver: %q", reply)
		}
		slowest = max(slowest, took)
	}
	return slowest, nil
}

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
