package cases

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// trip is a domain with smtps- hosts and the expected path of its mail. The first mail makes policyd probe the hosts;
// the second one uses the verdicts.
type trip struct {
	name, domain string
	hosts        []host
	// mx are the groups of equal preference, best first; nil is each host alone, in the order of hosts.
	mx []string
	// first is another domain with the last host alone, which receives the first mail; "" is the domain.
	first string
	// probes are the states that policyd logs for the first hosts; cause is a part of the line.
	probes []string
	cause  string
	// by is the host that receives the second mail; "" is any, on port 25.
	by string
	// route is the route after the probes; "" is none, and then mail goes to port 25.
	route string
	// policy is the TLS policy for port 26; "" is not checked.
	policy string
}

// trips are smtps- hosts whose port 26 works, or fails in one way each.
func trips() []trip {
	opens := func(name, domain string, addrs ...string) trip {
		h := smtps("smtps-mx")
		for _, a := range addrs {
			h.Addrs = append(h.Addrs, netip.MustParseAddr(a))
		}
		return trip{name: name, domain: domain, hosts: []host{h}, probes: []string{"open"}, by: "smtps-mx",
			route: "smtps26:" + domain + ":26", policy: secure("smtps-mx." + domain)}
	}
	shut := func(cause, domain string, b lab.Behaviour, f lab.Flaw) trip {
		h := withFlaws(does("smtps-mx", lab.STARTTLS, b), lab.Good, f)
		return trip{name: fmt.Sprintf("26 closed (%s): mail goes to 25, verified", cause), domain: domain,
			hosts: []host{h}, probes: []string{"closed"}, cause: cause, by: "smtps-mx"}
	}
	return []trip{
		opens("26 open: the second mail goes there", "open.test"),
		opens("26 open over ::1", "open6.test", "::1"),
		opens("26 open over IPv4 and IPv6", "opendual.test", "127.21.1.1", "fd00:26:1::1"),
		shut("refused", "refused26.test", lab.Closed, lab.Good),
		shut("timeout", "hole.test", lab.BlackHole, lab.Good),
		shut("plaintext", "plain26.test", lab.Clear, lab.Good),
		shut("certificate name", "name26.test", lab.Implicit, lab.OtherName),
		shut("certificate expired", "expired26.test", lab.Implicit, lab.ExpiredCert),
		shut("certificate chain", "chain26.test", lab.Implicit, lab.SelfSigned),
		shut("refused by postfix", "anyuse26.test", lab.Implicit, lab.AnyUse),
		shut("refused by postfix", "usage26.test", lab.Implicit, lab.NonRepudiation),
		// It can take two minutes until policyd finds a host that stalls closed; until then it does not use the host.
		{name: "26 stalls in the handshake: mail goes to 25, verified", domain: "stall26.test", by: "smtps-mx",
			hosts: []host{does("smtps-mx", lab.STARTTLS, lab.StallsTLS)}},
		// Postfix would go to either of two hosts with the same preference.
		{name: "26 open on one of two equal hosts: mail goes to 25", domain: "two.test",
			hosts: []host{smtps("smtps-a"), good("smtps-b")}, mx: []string{"smtps-a.two.test smtps-b.two.test"},
			probes: []string{"open", "closed"}},
		{name: "26 open on the best hosts only: a route to those, in order", domain: "lead.test",
			hosts:  []host{smtps("smtps-b"), smtps("smtps-a"), good("smtps-c")},
			probes: []string{"open", "open", "closed"}, by: "smtps-b",
			route: "smtps26:[smtps-b.lead.test]:26, [smtps-a.lead.test]:26"},
		// Another domain uses the backup, so policyd probes it.
		{name: "26 open on the backup only: mail goes to 25", domain: "backup.test", first: "backup-alone.test",
			hosts: []host{good("starttls-mx"), smtps("smtps-backup")}, probes: []string{"", "open"}, by: "starttls-mx"},
		// This site is a backup for the domain: a route would bring its mail back here.
		{name: "this host among the MX hosts: no route, mail goes to 25", domain: "friend.test",
			first: "friend-alone.test", hosts: []host{smtps("smtps-mx")},
			mx: []string{"smtps-mx.friend.test", lab.Hostname}, probes: []string{"open"}, by: "smtps-mx"},
		{name: "26 open, TLSA for both ports: 26 under DANE", domain: "dane26.test",
			hosts: []host{withTLSA(smtps("smtps-mx"), both)}, probes: []string{"open"}, by: "smtps-mx",
			route: "smtps26:dane26.test:26", policy: "dane-only"},
		// Port 26 would be weaker than DANE.
		{name: "26 open, TLSA for 25 alone: stays on 25 with DANE", domain: "dane25.test",
			hosts: []host{withTLSA(smtps("smtps-mx"), own)}, by: "smtps-mx"},
	}
}

func (t trip) build(l *lab.Lab) Case {
	receivers, names := addHosts(l, t.domain, t.hosts)
	if t.mx == nil {
		t.mx = names
	}
	l.MX(t.domain, t.mx...)
	first := t.domain
	if t.first != "" {
		first = t.first
		l.MX(first, names[len(names)-1])
	}
	return Case{Name: t.name, Run: func(ctx context.Context) string {
		w := want{status: "sent", tls: "Verified"}
		if t.route == "" && len(t.hosts) == 1 {
			w = verified(names[0])
		}
		sent, _ := attempt(ctx, l, w, "first@"+first)
		if len(t.hosts) == 1 {
			received(receivers[t.hosts[0].Name], sent)
		}
		for i, state := range t.probes {
			if state != "" {
				probed(ctx, l, names[i], state, t.cause)
			}
		}
		if t.first != "" {
			routed(ctx, l, t.first, "smtps26:"+t.first+":26")
		}
		switch {
		case t.route != "":
			w = verified26(below(t.by, t.domain))
		case t.by != "":
			w = verified(below(t.by, t.domain))
		default:
			w = want{status: "sent", service: viaDefault, tls: "Verified"}
		}
		sent, line := attempt(ctx, l, w, "second@"+t.domain)
		for name, r := range receivers {
			switch t.by {
			case "":
			case name:
				received(r, sent)
			default:
				untouched(r, sent)
			}
		}
		if t.policy != "" {
			answers(ctx, l, t.domain+":26", t.policy)
		}
		if t.route != "" {
			routed(ctx, l, t.domain, t.route)
		} else {
			unrouted(ctx, l, t.domain)
		}
		return line
	}}
}

// probed waits until policyd has logged the verdict about a host.
func probed(ctx context.Context, l *lab.Lab, host, state, cause string) {
	must.Do(l.Policyd.Logged(ctx, "port of implicit TLS probed", "mx="+host+" ", "status="+state, cause))
}

// routed waits until a domain has the route.
func routed(ctx context.Context, l *lab.Lab, domain, route string) {
	must.Do(l.Policyd.Until(ctx, socketmap.Request{Map: "transport", Key: "someone@" + domain}, socketmap.OK(route)))
}

func unrouted(ctx context.Context, l *lab.Lab, domain string) {
	r := must.Get(l.Policyd.Ask(ctx, socketmap.Request{Map: "transport", Key: "someone@" + domain}))
	must.Be(r.Status == socketmap.StatusNotFound, "%s has the route %q", domain, r)
}

// closes is a host whose port 26 closes between two mails. Postfix does not report failed deliveries to policyd, so
// policyd must notice by itself.
func closes(l *lab.Lab) Case {
	const domain = "closes.test"
	r := l.Host(lab.Host{Name: "smtps-mx." + domain, On25: lab.STARTTLS, On26: lab.Implicit})
	l.MX(domain, r.Name)
	return Case{Name: "26 closed between two mails: the first retry goes to 25",
		Run: func(ctx context.Context) string {
			attempt(ctx, l, want{status: "sent", tls: "Verified"}, "first@"+domain)
			probed(ctx, l, r.Name, "open", "")
			attempt(ctx, l, verified26(r.Name), "second@"+domain)
			must.Do(r.Serve(26, lab.Closed, nil))
			m := must.Get(l.Postfix.Send(ctx, lab.User, "third@"+domain))
			d := must.Get(m.Wait(ctx))
			lines := shown(d)
			// If policyd has already noticed, the first attempt delivers the mail.
			if d.Status == "deferred" {
				must.Do(want{service: via26}.check(d))
				probed(ctx, l, r.Name, "closed", "")
				// qmgr caches its last answer for half a minute; another mail replaces it.
				attempt(ctx, l, want{status: "sent"}, lab.User)
				must.Do(m.Retry(ctx))
				d = must.Get(m.Wait(ctx))
				lines += "\n" + shown(d)
			}
			must.Do(verified(r.Name).check(d))
			received(r, m)
			return lines
		}}
}
