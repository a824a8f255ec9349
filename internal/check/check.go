// Package check tests whether a receiving domain keeps what the names of its MX hosts promise. It looks up everything
// that a sender would, connects to every address of every MX host, as far as EHLO within TLS and no further, and
// reports what holds and what to change. What could not be tested from here never counts as a failure of the domain.
//
// The SMTP and TLS dialogue is that of package smtptls.
package check

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/socketmap"
)

// Options say how to check.
type Options struct {
	Servers              *stub.Stub     // the DNS servers, after their self-test
	Policy               policy.Options // has the settings that the answers of the maps depend on
	CAFile               string         // the file that the roots are from; "" means the system's
	Special              bool           // accepts special-purpose addresses without a finding
	Careful              bool           // leaves special-purpose addresses out otherwise
	ProxyFromEnvironment bool           // as in mtasts.Fetcher
	NoConnect            bool           // leaves all connections out
	Port25Only           bool           // leaves the connections to the port of implicit TLS out
	IPv4, IPv6           bool           // connect to this family only
	Verbose              bool           // keeps the dialogues
	SMTPPort             uint16         // 25 except in tests
	// Dialogue has what all dialogues share. Postfix is not asked if At is set. A zero Timeout means a minute.
	smtptls.Dialogue
}

// Checker checks domains. Make one with New.
type Checker struct {
	o         Options
	resolver  *dnscache.Cache
	engine    *gather.Engine // gathers facts for the answers of the maps
	endpoints *endpoints
}

// New returns a Checker.
func New(o Options) *Checker {
	o.SMTPPort, o.Timeout = cmp.Or(o.SMTPPort, policy.SMTPPort), cmp.Or(o.Timeout, time.Minute)
	if !o.At.IsZero() {
		o.Postfix = nil // it judges the present only
	}
	// The settings and overrides of this host say nothing about the receiver.
	o.Policy.Mode, o.Policy.Overrides = policy.ModeEnforce, nil
	o.Policy.Port26Mode = policy.PortProbe
	o.Policy.MTASTS = o.Policy.MTASTS && !o.NoConnect // the policy would have to be fetched
	// These bounds are enough for many domains that share name servers and hosts. A long list must not fill the memory.
	const answers, policies = 50_000, 2048
	resolver := dnscache.New(o.Servers, dnscache.Options{Epoch: o.Servers.Epoch, MaxEntries: answers})
	sts := stsstore.New(stsstore.Options{
		Resolver: resolver, MaxPolicies: policies,
		Fetcher: &mtasts.Fetcher{Resolver: resolver, Roots: o.Roots, Special: o.Special || !o.Careful,
			ProxyFromEnvironment: o.ProxyFromEnvironment},
	})
	engine := &gather.Engine{Resolver: resolver, Site: gather.Elsewhere{}, STS: sts}
	return &Checker{o, resolver, engine, newEndpoints()}
}

// domain is a domain being checked.
type domain struct {
	*Checker
	report.Report
	facts    *policy.Facts
	decision policy.Decision
	hosts    []*host
}

// Check checks a domain, given with U-labels or A-labels.
func (c *Checker) Check(ctx context.Context, input string) report.Report {
	d := &domain{Checker: c, Report: report.Report{
		Input: strings.ToValidUTF8(input, "?"), Checked: time.Now().UTC().Truncate(time.Second), Set: "none",
		DNSSEC: dns.Indeterminate.String(), MX: []report.Host{}, Findings: []report.Finding{}, Commands: []string{},
		Why: []string{}, WhyTransport: []string{}, RRset: report.RRset{State: "failed"},
		Source: string(policy.SourceNone), Transport: socketmap.NotFound(),
		MTASTS: report.STSPolicy{State: "unknown"}, TLSRPT: report.TLSRPT{State: "failed"},
	}}
	d.At = cmp.Or(c.o.At, d.Checked).UTC().Truncate(time.Second)
	d.showResolver()
	if name, ok := policy.ParseName(input); ok {
		d.Domain, d.Nexthop = name, name
		found := d.lookUpMX(ctx)
		d.facts = policy.NewFacts(policy.Nexthop{Name: name, Port: policy.SMTPPort})
		if d.decision = d.decide(ctx, policy.Survey); found {
			d.lookUpHosts(ctx)
			d.lookUpContext(ctx)
			d.connect(ctx)
			d.judge()
		}
		d.answer(ctx)
	} else {
		d.find("not-a-domain", report.Finding{}, "")
		d.RRset.Error = "not a domain name"
	}
	d.conclude()
	return d.Report
}
