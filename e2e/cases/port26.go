package cases

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// port26 are smtps- hosts whose port 26 works, does not work, or stops working.
func port26(l *lab.Lab) []Case {
	return []Case{
		opens(l, "26 open: the second mail goes there", lab.Host{Name: "smtps-mx.open.test"}),
		opens(l, "26 open over ::1", lab.Host{
			Name: "smtps-mx.open6.test", Addrs: []netip.Addr{netip.IPv6Loopback()}}),
		opens(l, "26 open over IPv4 and IPv6", lab.Host{
			Name: "smtps-mx.opendual.test", Addrs: []netip.Addr{netip.MustParseAddr("127.21.1.1"), lab.V6(1)}}),
		shut(l, lab.Host{Name: "smtps-mx.refused26.test", On26: lab.Closed}, "refused"),
		shut(l, lab.Host{Name: "smtps-mx.hole.test", On26: lab.BlackHole}, "timeout"),
		shut(l, lab.Host{Name: "smtps-mx.plain26.test", On26: lab.Clear}, "plaintext"),
		shut(l, lab.Host{Name: "smtps-mx.name26.test", On26: lab.Implicit, Flaw26: lab.OtherName}, "certificate name"),
		shut(l, lab.Host{Name: "smtps-mx.expired26.test", On26: lab.Implicit, Flaw26: lab.ExpiredCert},
			"certificate expired"),
		shut(l, lab.Host{Name: "smtps-mx.chain26.test", On26: lab.Implicit, Flaw26: lab.SelfSigned},
			"certificate chain"),
		shut(l, lab.Host{Name: "smtps-mx.anyuse26.test", On26: lab.Implicit, Flaw26: lab.AnyUse}, "refused by postfix"),
		shut(l, lab.Host{Name: "smtps-mx.usage26.test", On26: lab.Implicit, Flaw26: lab.NonRepudiation},
			"refused by postfix"),
		shut(l, lab.Host{Name: "smtps-mx.stall26.test", On26: lab.StallsTLS}, "timeout"),
		oneOfTwo(l),
		leading(l),
		backupOpen(l),
		closes(l),
		selfAmongMX(l),
		dane26(l),
		daneOnly25(l),
	}
}

// probed waits until policyd has logged the verdict about a host.
func probed(ctx context.Context, l *lab.Lab, host, state string) error {
	_, err := l.Policyd.Logged(ctx, "port of implicit TLS probed", "mx="+host+" ", "status="+state)
	return err
}

// routed waits until the route of a domain is as wanted: "" is none.
func routed(ctx context.Context, l *lab.Lab, domain, route string) error {
	return l.Policyd.Until(ctx, socketmap.Request{Map: "transport", Key: "someone@" + domain}, func(r socketmap.Reply) bool {
		return r.Text == route && (r.Status == socketmap.StatusOK) == (route != "")
	})
}

// unrouted checks that a domain has no route.
func unrouted(ctx context.Context, l *lab.Lab, domain string) error {
	r, err := l.Policyd.Ask(ctx, socketmap.Request{Map: "transport", Key: "someone@" + domain})
	if err == nil && r.Status != socketmap.StatusNotFound {
		err = fmt.Errorf("%s has the route %q", domain, r)
	}
	return err
}

// opens is a domain whose one host has an open port 26.
func opens(l *lab.Lab, name string, h lab.Host) Case {
	h.On25, h.On26 = lab.STARTTLS, lab.Implicit
	r := l.Host(h)
	_, domain, _ := strings.Cut(h.Name, ".")
	l.MX(domain, r.Name)
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		// The host has not been asked for before.
		first, before, err := attempt(ctx, l, want{status: "sent", tls: "Verified"}, "first@"+domain)
		if err != nil {
			return before, err
		}
		if err := errors.Join(received(r, first), probed(ctx, l, r.Name, "open")); err != nil {
			return before, err
		}
		second, line, err := attempt(ctx, l, verified26(r.Name), "second@"+domain)
		if err != nil {
			return line, err
		}
		policy, err := l.Policyd.Ask(ctx, socketmap.Request{Map: "tls-policy", Key: domain + ":26"})
		if err == nil && policy.Text != "secure match="+r.Name+" servername=hostname" {
			err = fmt.Errorf("the policy for port 26 is %q", policy)
		}
		return line, errors.Join(err, received(r, second), routed(ctx, l, domain, "smtps26:"+domain+":26"))
	}}
}

// shut is a domain whose one host promises port 26 and does not keep it; port 25 is as it should be.
func shut(l *lab.Lab, h lab.Host, cause string) Case {
	h.On25 = lab.STARTTLS
	r := l.Host(h)
	_, domain, _ := strings.Cut(h.Name, ".")
	l.MX(domain, r.Name)
	name := fmt.Sprintf("26 closed (%s): mail goes to 25, verified", cause)
	if h.On26 == lab.StallsTLS {
		name = "26 stalls in the handshake: mail goes to 25, verified"
	}
	return Case{Name: name, Run: func(ctx context.Context) (string, error) {
		m, line, err := attempt(ctx, l, verified(r.Name), "first@"+domain)
		if err != nil {
			return line, err
		}
		// A host that stalls may take two minutes to be called closed. Until then it is unknown, and not used.
		if h.On26 != lab.StallsTLS {
			_, err = l.Policyd.Logged(ctx, "port of implicit TLS probed", "mx="+r.Name+" ", "status=closed", cause)
		}
		if err := errors.Join(err, received(r, m)); err != nil {
			return line, err
		}
		m, line, err = attempt(ctx, l, verified(r.Name), "second@"+domain)
		if err != nil {
			return line, err
		}
		return line, errors.Join(received(r, m), unrouted(ctx, l, domain))
	}}
}

// settled delivers a first mail by port 25 and waits until all smtps- hosts have been probed.
func settled(ctx context.Context, l *lab.Lab, domain string, states map[string]string) error {
	if _, _, err := attempt(ctx, l, want{status: "sent", tls: "Verified"}, "first@"+domain); err != nil {
		return err
	}
	for host, state := range states {
		if err := probed(ctx, l, host, state); err != nil {
			return err
		}
	}
	return nil
}

// oneOfTwo has two hosts of one preference: Postfix would go to either.
func oneOfTwo(l *lab.Lab) Case {
	open := l.Host(lab.Host{Name: "smtps-a.two.test", On25: lab.STARTTLS, On26: lab.Implicit})
	shut := l.Host(lab.Host{Name: "smtps-b.two.test", On25: lab.STARTTLS})
	l.MX("two.test", open.Name+" "+shut.Name)
	return Case{Name: "26 open on one of two equal hosts: mail goes to 25",
		Run: func(ctx context.Context) (string, error) {
			if err := settled(ctx, l, "two.test", map[string]string{open.Name: "open",
				shut.Name: "closed"}); err != nil {
				return "", err
			}
			_, line, err := attempt(ctx, l, want{status: "sent", service: viaDefault, tls: "Verified"},
				"second@two.test")
			return line, errors.Join(err, unrouted(ctx, l, "two.test"))
		}}
}

// leading has the better hosts open on 26, and another behind them.
func leading(l *lab.Lab) Case {
	a := l.Host(lab.Host{Name: "smtps-a.lead.test", On25: lab.STARTTLS, On26: lab.Implicit})
	b := l.Host(lab.Host{Name: "smtps-b.lead.test", On25: lab.STARTTLS, On26: lab.Implicit})
	c := l.Host(lab.Host{Name: "smtps-c.lead.test", On25: lab.STARTTLS})
	l.MX("lead.test", b.Name, a.Name, c.Name)
	return Case{Name: "26 open on the best hosts only: a route to those, in order",
		Run: func(ctx context.Context) (string, error) {
			states := map[string]string{a.Name: "open", b.Name: "open", c.Name: "closed"}
			if err := settled(ctx, l, "lead.test", states); err != nil {
				return "", err
			}
			if err := routed(ctx, l, "lead.test", "smtps26:["+b.Name+"]:26, ["+a.Name+"]:26"); err != nil {
				return "", err
			}
			m, line, err := attempt(ctx, l, verified26(b.Name), "second@lead.test")
			if err != nil {
				return line, err
			}
			return line, received(b, m)
		}}
}

// backupOpen has 26 on the backup only: MX order is obeyed.
func backupOpen(l *lab.Lab) Case {
	primary := l.Host(lab.Host{Name: "starttls-mx.backup.test", On25: lab.STARTTLS})
	backup := l.Host(lab.Host{Name: "smtps-backup.backup.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("backup.test", primary.Name, backup.Name)
	l.MX("backup-alone.test", backup.Name)
	return Case{Name: "26 on the backup only: the primary gets it on 25",
		Run: func(ctx context.Context) (string, error) {
			// Another domain uses the backup, so it is probed.
			if err := settled(ctx, l, "backup-alone.test", map[string]string{backup.Name: "open"}); err != nil {
				return "", err
			}
			m, line, err := attempt(ctx, l, verified(primary.Name), "someone@backup.test")
			if err != nil {
				return line, err
			}
			return line, errors.Join(received(primary, m), untouched(backup, m), unrouted(ctx, l, "backup.test"))
		}}
}

// closes is a host whose port 26 closes between two mails. Postfix does not report failed deliveries to policyd, which
// must find out by itself.
func closes(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.closes.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("closes.test", r.Name)
	return Case{Name: "26 closed between two mails: the first retry goes to 25",
		Run: func(ctx context.Context) (string, error) {
			if err := settled(ctx, l, "closes.test", map[string]string{r.Name: "open"}); err != nil {
				return "", err
			}
			if _, line, err := attempt(ctx, l, verified26(r.Name), "second@closes.test"); err != nil {
				return line, err
			}
			if err := r.Serve(26, lab.Service{}); err != nil {
				return "", err
			}
			m, err := l.Postfix.Send(ctx, "third@closes.test")
			if err != nil {
				return "", err
			}
			d, err := m.Wait(ctx)
			if err != nil {
				return "", err
			}
			lines := shown(d)
			// policyd may have noticed before: then the mail is delivered in the first attempt.
			if d.Status == "deferred" {
				if err := (want{service: via26}).check(d); err != nil {
					return lines, err
				}
				if err := probed(ctx, l, r.Name, "closed"); err != nil {
					return lines, err
				}
				// qmgr remembers its last answer for half a minute, far less than it waits before a retry.
				if _, _, err := attempt(ctx, l, want{status: "sent"}, "someone@"+lab.OwnDomain); err != nil {
					return lines, err
				}
				if err := m.Retry(ctx); err != nil {
					return lines, err
				}
				if d, err = m.Wait(ctx); err != nil {
					return lines, err
				}
				lines += "\n" + shown(d)
			}
			return lines, errors.Join(verified(r.Name).check(d), received(r, m))
		}}
}

// selfAmongMX is a domain that this site is a backup for. A route would bring its mail back here.
func selfAmongMX(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.friend.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("friend.test", r.Name, lab.Hostname)
	l.MX("friend-alone.test", r.Name)
	return Case{Name: "this host among the MX: no route, the primary gets it on 25",
		Run: func(ctx context.Context) (string, error) {
			if err := settled(ctx, l, "friend-alone.test", map[string]string{r.Name: "open"}); err != nil {
				return "", err
			}
			if err := routed(ctx, l, "friend-alone.test", "smtps26:friend-alone.test:26"); err != nil {
				return "", err
			}
			m, line, err := attempt(ctx, l, verified(r.Name), "someone@friend.test")
			if err != nil {
				return line, err
			}
			return line, errors.Join(received(r, m), unrouted(ctx, l, "friend.test"))
		}}
}

// dane26 publishes TLSA for both ports.
func dane26(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.dane26.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("dane26.test", r.Name)
	l.TLSA(r, 25)
	l.TLSA(r, 26)
	return Case{Name: "26 open, TLSA for both ports: 26 under DANE", Run: func(ctx context.Context) (string, error) {
		if err := settled(ctx, l, "dane26.test", map[string]string{r.Name: "open"}); err != nil {
			return "", err
		}
		m, line, err := attempt(ctx, l, verified26(r.Name), "second@dane26.test")
		if err != nil {
			return line, err
		}
		policy, err := l.Policyd.Ask(ctx, socketmap.Request{Map: "tls-policy", Key: "dane26.test:26"})
		if err == nil && policy.Text != "dane-only" {
			err = fmt.Errorf("the policy for port 26 is %q", policy)
		}
		return line, errors.Join(err, received(r, m))
	}}
}

// daneOnly25 publishes TLSA for port 25 alone: 26 would be less than DANE.
func daneOnly25(l *lab.Lab) Case {
	r := l.Host(lab.Host{Name: "smtps-mx.dane25.test", On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX("dane25.test", r.Name)
	l.TLSA(r, 25)
	return Case{Name: "26 open, TLSA for 25 alone: stays on 25 with DANE",
		Run: func(ctx context.Context) (string, error) {
			m, _, err := attempt(ctx, l, verified(r.Name), "first@dane25.test")
			if err != nil {
				return "", err
			}
			if err := received(r, m); err != nil {
				return "", err
			}
			_, line, err := attempt(ctx, l, verified(r.Name), "second@dane25.test")
			return line, errors.Join(err, unrouted(ctx, l, "dane25.test"))
		}}
}
