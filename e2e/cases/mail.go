package cases

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/socketmap"
)

// mail is a domain and what becomes of one mail to it.
type mail struct {
	name   string
	domain string
	// hosts are the MX hosts, best first. A domain without hosts has only records.
	hosts []host
	// sts is the MTA-STS policy: its mode and the names that it allows, separated by spaces. A name without a dot is
	// below the domain.
	sts string
	// records are further records, with absolute owner names.
	records []string
	// noMX leaves the MX records out, or has others in records.
	noMX bool
	// to is the domain of the recipient, if it is another one.
	to string
	// answer is the TLS policy for to, in the words of Key; "" is not checked.
	answer string
	// by is the host that delivers, as hosts name it; "" is for mail that is not sent. No other host sees the mail.
	by string
	// tls is how Postfix calls the connection; "" is Verified, and inClear is a connection without TLS.
	tls string
	// status is what becomes of mail that is not sent, "" is deferred; reason is a part of what Postfix logs for it.
	status, reason string
}

const inClear = "in the clear"

// host is an MX host of a domain.
type host struct {
	name string // one without a dot is below the domain
	on25 lab.Behaviour
	flaw lab.Flaw
	// tlsa is the data of its TLSA record for port 25; "own" is the record for its certificate.
	tlsa string
}

const own = "own"

func good(name string) host               { return host{name: name, on25: lab.STARTTLS} }
func stripped(name string) host           { return host{name: name, on25: lab.Clear} }
func flawed(name string, f lab.Flaw) host { return host{name: name, on25: lab.STARTTLS, flaw: f} }
func dane(name string) host {
	return host{name: name, on25: lab.STARTTLS, flaw: lab.SelfSigned, tlsa: own}
}
func withTLSA(h host, data string) host      { h.tlsa = data; return h }
func does(name string, b lab.Behaviour) host { return host{name: name, on25: b} }

// below returns a name below a domain; one with a dot in it is a name already.
func below(name, domain string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return name + "." + domain
}

// build adds the domain to the lab.
func (m mail) build(l *lab.Lab) Case {
	receivers := map[string]*lab.Receiver{}
	var names []string
	for _, h := range m.hosts {
		name := below(h.name, m.domain)
		r := l.Host(lab.Host{Name: name, On25: h.on25, Flaw: h.flaw})
		receivers[h.name], names = r, append(names, name)
		switch h.tlsa {
		case "":
		case own:
			l.TLSA(r, 25)
		default:
			l.Records("_25._tcp." + name + ". TLSA " + h.tlsa)
		}
	}
	if !m.noMX {
		l.MX(m.domain, names...)
	}
	l.Records(m.records...)
	if mode, allowed, found := strings.Cut(m.sts, " "); found {
		patterns := strings.Fields(allowed)
		for i, p := range patterns {
			patterns[i] = below(p, m.domain)
		}
		l.PolicyHost(m.domain, "1", lab.STS(mode, patterns...))
	}
	return Case{Name: m.name, Run: func(ctx context.Context) (string, error) { return m.run(ctx, l, receivers) }}
}

func (m mail) run(ctx context.Context, l *lab.Lab, receivers map[string]*lab.Receiver) (string, error) {
	to := m.domain
	if m.to != "" {
		to = m.to
	}
	if m.answer != "" {
		if err := answers(ctx, l, to, m.answer); err != nil {
			return "", err
		}
	}
	sent, line, err := attempt(ctx, l, m.want(), "someone@"+to)
	if err != nil {
		return line, err
	}
	tried := false
	for name, r := range receivers {
		tried = tried || len(r.Sessions()) > 0
		switch {
		case name != m.by:
			err = errors.Join(err, untouched(r, sent))
		case m.tls == inClear, m.tls == "Untrusted":
			if len(r.Got(sent.Token)) != 1 {
				err = errors.Join(err, fmt.Errorf("%s does not have the mail once", r.Name))
			}
		default:
			err = errors.Join(err, received(r, sent))
		}
	}
	if m.by != "" || m.status != "" {
		return line, err
	}
	if strings.HasPrefix(m.reason, "TLS is required") && !tried {
		err = errors.Join(err, errors.New("no host was even tried"))
	}
	queued, failed := sent.Queued(ctx)
	if failed == nil && !queued {
		failed = errors.New("the mail is no longer in the queue")
	}
	return line, errors.Join(err, failed)
}

func (m mail) want() want {
	if m.by == "" {
		status := m.status
		if status == "" {
			status = "deferred"
		}
		return want{status: status, reason: m.reason}
	}
	w := want{status: "sent", relay: below(m.by, m.domain) + ":25", service: viaDefault, tls: m.tls}
	switch m.tls {
	case "":
		w.tls = "Verified"
	case inClear:
		w.tls, w.inClear = "", true
	}
	return w
}

// answers checks the answer of the map tls-policy.
func answers(ctx context.Context, l *lab.Lab, key, answer string) error {
	r, err := l.Policyd.Ask(ctx, socketmap.Request{Map: "tls-policy", Key: key})
	if err != nil {
		return err
	}
	if got := strings.TrimPrefix(strings.TrimSpace(r.String()), "OK "); got != answer &&
		(answer != temp || !strings.HasPrefix(got, temp)) {
		return fmt.Errorf("the policy for %s is %q, not %q", key, got, answer)
	}
	return nil
}

// build adds the domains of mails to the lab.
func build(l *lab.Lab, mails ...[]mail) []Case {
	var all []Case
	for _, m := range slices.Concat(mails...) {
		all = append(all, m.build(l))
	}
	return all
}
