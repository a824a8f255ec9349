package cases

import (
	"cmp"
	"context"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// mail is a domain and the expected fate of one mail to it.
type mail struct {
	name   string
	domain string
	// hosts are the MX hosts, best first. A domain without hosts has only records.
	hosts []host
	// sts is the MTA-STS policy: its mode and the names that it allows. A name without a dot is below the domain.
	sts string
	// records are further records, with absolute owner names.
	records []string
	noMX    bool
	// to is the domain of the recipient; "" means domain.
	to string
	// table is a policy for the domain in a table that Postfix looks up before it asks policyd.
	table string
	// answer is the TLS policy for to, in the notation of Key; "" is not checked.
	answer string
	// by is the host that delivers, as hosts name it; "" is for mail that is not sent. No other host sees the mail.
	by string
	// tls is what Postfix logs for the connection; "" is Verified, inClear no TLS, and anyTLS is not checked.
	tls  string
	on26 bool
	// status is the result for mail that is not sent, "" is deferred; reason is a part of what Postfix logs for it.
	status, reason string
	// report lists parts of the TLSRPT report about the domain; the domain asks for reports if there are any.
	report []string
}

const (
	inClear = "in the clear"
	anyTLS  = "any"
)

// host is an MX host of a domain; a name without a dot is below the domain.
type host struct {
	lab.Host
	// tlsa is its TLSA record for port 25; own is that for its certificate, and both has one for port 26 too.
	tlsa string
}

const (
	own  = "own"
	both = "both"
)

func does(name string, on25, on26 lab.Behaviour) host {
	return host{Host: lab.Host{Name: name, On25: on25, On26: on26}}
}

func good(name string) host                      { return does(name, lab.STARTTLS, lab.Closed) }
func smtps(name string) host                     { return does(name, lab.STARTTLS, lab.Implicit) }
func stripped(name string) host                  { return does(name, lab.Clear, lab.Closed) }
func flawed(name string, f lab.Flaw) host        { return withFlaws(good(name), f, f) }
func dane(name string) host                      { return withTLSA(flawed(name, lab.SelfSigned), own) }
func withTLSA(h host, data string) host          { h.tlsa = data; return h }
func withFlaws(h host, on25, on26 lab.Flaw) host { h.Flaw, h.Flaw26 = on25, on26; return h }

// below returns a name below a domain; one that contains a dot is complete.
func below(name, domain string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return name + "." + domain
}

// addHosts adds the hosts of a domain to the lab, and returns their receivers by the names that hosts use.
func addHosts(l *lab.Lab, domain string, hosts []host) (receivers map[string]*lab.Receiver, names []string) {
	receivers = map[string]*lab.Receiver{}
	for _, h := range hosts {
		alias := h.Name
		h.Name = below(h.Name, domain)
		r := l.Host(h.Host)
		receivers[alias], names = r, append(names, h.Name)
		switch h.tlsa {
		case "":
		case both:
			l.TLSA(r, 26)
			l.TLSA(r, 25)
		case own:
			l.TLSA(r, 25)
		default:
			l.Records("_25._tcp." + h.Name + ". TLSA " + h.tlsa)
		}
	}
	return receivers, names
}

func (m mail) build(l *lab.Lab) Case {
	receivers, names := addHosts(l, m.domain, m.hosts)
	if !m.noMX {
		l.MX(m.domain, names...)
	}
	l.Records(m.records...)
	if m.report != nil {
		l.Records("_smtp._tls." + m.domain + ". TXT \"v=TLSRPTv1; rua=mailto:reports@" + m.domain + "\"")
	}
	if m.table != "" {
		l.Policy(m.domain, m.table)
	}
	if mode, allowed, found := strings.Cut(m.sts, " "); found {
		patterns := strings.Fields(allowed)
		for i, p := range patterns {
			patterns[i] = below(p, m.domain)
		}
		l.PolicyHost(m.domain, "1", lab.STS(mode, patterns...))
	}
	m.to = cmp.Or(m.to, m.domain)
	return Case{Name: m.name, Run: func(ctx context.Context) string {
		if m.answer != "" {
			answers(ctx, l, m.to, m.answer)
		}
		sent, line := attempt(ctx, l, m.want(), "someone@"+m.to)
		tried := false
		for name, r := range receivers {
			m.judge(r, sent, name == m.by)
			tried = tried || len(r.Sessions()) > 0
		}
		if m.report != nil {
			report := must.Get(l.Report(ctx, m.domain))
			contains(report, m.report...)
			line += "\n" + report
		}
		if m.by == "" && m.status == "" {
			must.Be(tried || !strings.HasPrefix(m.reason, "TLS is required"), "no host was tried")
			must.Be(must.Get(sent.Queued(ctx)), "the mail is no longer in the queue")
		}
		return line
	}}
}

// judge checks what a receiver saw of the mail.
func (m mail) judge(r *lab.Receiver, sent *lab.Sent, delivers bool) {
	if !delivers {
		untouched(r, sent)
		return
	}
	got := r.Got(sent.Token)
	must.Be(len(got) == 1, "%s has the mail %d times", r.Name, len(got))
	const record = 22 // the type of a TLS handshake record (RFC 8446 section 5.1)
	must.Be(!m.on26 || got[0].Raw[0] == record, "the mail did not arrive over implicit TLS")
	if m.tls != inClear && m.tls != anyTLS && m.tls != "Untrusted" {
		received(r, sent)
	}
}

func (m mail) want() want {
	if m.by == "" {
		return want{status: cmp.Or(m.status, "deferred"), reason: m.reason}
	}
	w := verified(below(m.by, m.domain))
	if m.on26 {
		w = verified26(below(m.by, m.domain))
	}
	switch m.tls {
	case inClear:
		w.tls, w.inClear = "", true
	case anyTLS:
		w.tls = ""
	default:
		w.tls = cmp.Or(m.tls, w.tls)
	}
	return w
}

func answers(ctx context.Context, l *lab.Lab, key, answer string) {
	r := must.Get(l.Policyd.Ask(ctx, socketmap.Request{Map: "tls-policy", Key: key}))
	got := strings.TrimPrefix(strings.TrimSpace(r.String()), "OK ")
	right := got == answer || answer == temp && strings.HasPrefix(got, temp)
	must.Be(right, "the policy for %s is %q, not %q", key, got, answer)
}

func contains(text string, parts ...string) {
	for _, p := range parts {
		must.Be(strings.Contains(text, p), "%q is missing in: %s", p, text)
	}
}

// build adds the domains of a table to the lab.
func build[T interface{ build(l *lab.Lab) Case }](l *lab.Lab, table []T) (all []Case) {
	for _, row := range table {
		all = append(all, row.build(l))
	}
	return all
}
