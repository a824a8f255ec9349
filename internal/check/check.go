// Package check tests whether a receiving domain keeps what the names of its MX hosts promise. It looks up everything
// that a sender would, connects to every address of every MX host, as far as EHLO within TLS and no further, and
// reports what holds and what to change. What could not be tested from here never counts as a failure of the domain.
//
// The SMTP and TLS dialogue is that of package smtptls.
package check

import (
	"cmp"
	"context"
	"crypto/x509"
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

// Servers are the DNS servers that the resolver asks. A Stub has them.
type Servers interface {
	State() stub.State // the result of the self-test: whether answers can be secure
	// SignatureExpires returns when the signatures of an RRset expire; false if that cannot be determined.
	SignatureExpires(ctx context.Context, q dns.Question) (time.Time, bool)
}

// Options say how to check.
type Options struct {
	Resolver             *dnscache.Cache // answers the lookups; it asks Servers
	Servers              Servers
	Policy               policy.Options // has the settings that the answers of the maps depend on
	Roots                *x509.CertPool // the trusted roots, from the file CAFile; nil means the system's
	CAFile               string
	Special              bool          // accepts special-purpose addresses without a finding
	Careful              bool          // leaves special-purpose addresses out otherwise
	ProxyFromEnvironment bool          // as in mtasts.Fetcher
	NoConnect            bool          // leaves all connections out
	Port25Only           bool          // leaves the connections to the port of implicit TLS out
	IPv4, IPv6           bool          // connect to this family only
	Timeout              time.Duration // bounds each connection; zero means a minute
	At                   time.Time     // when certificates must be valid; zero means now
	Verbose              bool          // keeps the dialogues
	Helo                 string        // as in smtptls.Dialogue
	Postfix              smtptls.Judge // as in smtptls.Dialogue; not asked where At is set
	SMTPPort             uint16        // 25 except in tests
}

// Checker checks domains. Make one with New.
type Checker struct {
	o         Options
	engine    *gather.Engine // gathers facts for the answers of the maps
	endpoints *endpoints
}

// New returns a Checker.
func New(o Options) *Checker {
	o.SMTPPort, o.Timeout = cmp.Or(o.SMTPPort, policy.SMTPPort), cmp.Or(o.Timeout, time.Minute)
	if !o.At.IsZero() {
		o.Postfix = nil // it judges the present only
	}
	// What an operator has switched off on this host says nothing about the receiver.
	o.Policy.Mode = policy.ModeEnforce
	o.Policy.Port26 = policy.PortProbe
	o.Policy.MTASTS = o.Policy.MTASTS && !o.NoConnect // the policy would have to be fetched
	const policies = 2048                             // as many as are of use to a scan
	sts := stsstore.New(stsstore.Options{
		Resolver: o.Resolver, MaxPolicies: policies,
		Fetcher: &mtasts.Fetcher{Resolver: o.Resolver, Roots: o.Roots, Special: o.Special || !o.Careful,
			ProxyFromEnvironment: o.ProxyFromEnvironment},
	})
	engine := &gather.Engine{Resolver: o.Resolver, Site: gather.Elsewhere{}, STS: sts}
	return &Checker{o: o, engine: engine, endpoints: newEndpoints()}
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
		if d.gather(ctx); found {
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
