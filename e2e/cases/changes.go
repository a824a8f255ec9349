package cases

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// killed ends policyd in the middle of a stream of mail and starts it again on the listener that was open all the time.
func killed(l *lab.Lab) Case {
	const mails, senders = 60, 4
	r := l.Host(lab.Host{Name: "starttls-mx.stream.test", On25: lab.STARTTLS})
	l.MX("stream.test", r.Name)
	return Case{Name: "policyd killed and started again while mail flows: nothing is lost",
		Run: func(ctx context.Context) string {
			sent := make([]*lab.Sent, mails)
			send := func(from, to int) {
				must.Each(to-from, senders, func(i int) {
					sent[from+i] = must.Get(l.Postfix.Send(ctx, lab.User, fmt.Sprintf("nr%d@stream.test", from+i)))
				})
			}
			send(0, mails/3)
			// Postfix continues to ask.
			l.Policyd.Kill()
			must.Do(l.Policyd.Start(ctx))
			send(mails/3, mails)
			retries := 0
			for _, m := range sent {
				retries += arrive(ctx, m, verified(r.Name))
				received(r, m)
			}
			return fmt.Sprintf("%d mails sent, %d received once each under Verified TLS, %d retries", mails, mails,
				retries)
		}}
}

// arrive waits until a mail is delivered, retries it when it is deferred, and returns the number of retries.
func arrive(ctx context.Context, m *lab.Sent, w want) (again int) {
	d := must.Get(m.Wait(ctx))
	for ; d.Status == "deferred" && again < 5; again++ {
		must.Do(m.Retry(ctx))
		d = must.Get(m.Wait(ctx))
	}
	must.Do(w.check(d))
	return again
}

// stsKept restarts policyd without the policy host and without STARTTLS at the receiver. The policy lasts for a week.
func stsKept(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "mx.stskept.test", On25: lab.STARTTLS})
	l.MX("stskept.test", r.Name)
	web := l.PolicyHost("stskept.test", "1", lab.STS("enforce", r.Name))
	return Case{Name: "MTA-STS host down, policyd killed, STARTTLS stripped: still enforced",
		Run: func(ctx context.Context) string {
			attempt(ctx, l, verified(r.Name), "first@stskept.test")
			l.Policyd.Kill()
			web.Close()
			must.Do(r.Serve(25, lab.Clear, nil), l.Policyd.Start(ctx))
			m, line := attempt(ctx, l, want{status: "deferred", reason: "TLS is required"}, "second@stskept.test")
			untouched(r, m)
			return line
		}}
}

// resolver makes policyd's resolver silent, or stops it. Cached answers are still used, and no mail waits for a route.
func resolver(l *lab.Lab, gone bool) Case {
	tag, how := "silent", "resolver silent"
	away := func() { must.Do(l.Upstream.Signal(syscall.SIGSTOP)) }
	back := func(context.Context) error { return l.Upstream.Signal(syscall.SIGCONT) }
	if gone {
		tag, how = "gone", "resolver dead"
		away, back = func() { l.Upstream.Kill() }, l.Upstream.Start
	}
	known := l.Host(lab.Host{Name: "starttls-mx.known-" + tag + ".test", On25: lab.STARTTLS})
	l.MX("known-"+tag+".test", known.Name)
	fresh := l.Host(lab.Host{Name: "starttls-mx.fresh-" + tag + ".test", On25: lab.STARTTLS})
	l.MX("fresh-"+tag+".test", fresh.Name)
	return Case{Name: how + ": routes within 300 ms, known domains verified, others wait",
		Run: func(ctx context.Context) string {
			attempt(ctx, l, verified(known.Name), "someone@known-"+tag+".test")
			var slowest time.Duration
			var line, waits string
			var m *lab.Sent
			away()
			err := must.Catch(func() {
				slowest = slowestRoute(ctx, l, tag)
				_, line = attempt(ctx, l, verified(known.Name), "again@known-"+tag+".test")
				m, waits = attempt(ctx, l, want{status: "deferred"}, "someone@fresh-"+tag+".test")
			})
			must.Do(err, back(ctx)) // the cases after this one need it
			untouched(fresh, m)
			// The resolver is back: the deferred mail is delivered.
			must.Do(l.Policyd.Until(ctx, socketmap.Request{Map: "tls-policy", Key: "fresh-" + tag + ".test"},
				socketmap.OK(secure(fresh.Name))), m.Retry(ctx))
			arrive(ctx, m, verified(fresh.Name))
			received(fresh, m)
			return fmt.Sprintf("slowest route %v\nknown: %s\nunknown: %s", slowest.Round(time.Millisecond), line, waits)
		}}
}

// slowestRoute asks for the routes of unknown names and returns how long the slowest took. A busy machine can delay an
// answer, so there are several rounds, of which one must be fast throughout.
func slowestRoute(ctx context.Context, l *lab.Lab, tag string) (slowest time.Duration) {
	const rounds, questions, limit = 40, 10, 300 * time.Millisecond
	for round := range rounds {
		slowest = 0
		for i := range questions {
			begun := time.Now()
			unrouted(ctx, l, fmt.Sprintf("unknown-%s-%d-%d.test", tag, round, i))
			slowest = max(slowest, time.Since(begun))
		}
		if slowest <= limit {
			return slowest
		}
	}
	must.Be(false, "a route took %v", slowest)
	return slowest
}

// stsRotated moves to another host while the old policy is valid for a week.
func stsRotated(l *lab.Lab) Case {
	before := l.Host(lab.Host{Name: "before.rotated.test", On25: lab.STARTTLS})
	after := l.Host(lab.Host{Name: "after.rotated.test", On25: lab.STARTTLS})
	l.Records("rotated.test. 1 MX 10 " + before.Name + ".")
	web := l.PolicyHost("rotated.test", "1", lab.STS("enforce", before.Name))
	return Case{Name: "MTA-STS rotated: the new host is used immediately",
		Run: func(ctx context.Context) string {
			attempt(ctx, l, verified(before.Name), "first@rotated.test")
			web.Set(lab.STS("enforce", after.Name))
			l.Replace(ctx, "_mta-sts.rotated.test.", "TXT", fmt.Sprintf("%q", lab.Announcement("2")))
			l.Replace(ctx, "rotated.test.", "MX", "10 "+after.Name+".")
			must.Do(l.Policyd.Until(ctx, socketmap.Request{Map: "tls-policy", Key: "rotated.test"},
				socketmap.OK(secure(after.Name))))
			m, line := attempt(ctx, l, verified(after.Name), "second@rotated.test")
			received(after, m)
			return line
		}}
}
