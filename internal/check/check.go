// Package check tests whether a receiving domain keeps what the names of its MX hosts promise. It looks up everything
// that a sender would, connects to every address of every MX host, as far as EHLO within TLS and no further, and
// reports what holds and what to change. What could not be tested from here never counts as a failure of the domain.
//
// The SMTP and TLS dialogue is that of package smtptls.
package check

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Options are for a check.
type Options struct {
	Servers              *stub.Stub     // the DNS servers, after their self-test
	Policy               policy.Options // has the settings that the answers of the maps depend on
	CAFile               string         // the file with the roots; "" means the system's roots
	Special              bool           // special-purpose addresses are allowed; otherwise they are a finding
	Careful              bool           // unless Special is set, makes no connection to special-purpose addresses
	ProxyFromEnvironment bool           // as in mtasts.Fetcher
	NoConnect            bool           // makes no connections
	Port25Only           bool           // makes no connections to the port of implicit TLS
	IPv4, IPv6           bool           // connect to this family only
	Verbose              bool           // keeps the dialogues
	SMTPPort             uint16         // 25 except in tests
	// Template has what all dialogues share: all fields except Host, Addr and Implicit, which are not used. Postfix is
	// not asked if At is set. A zero Timeout means a minute.
	Template smtptls.Dialogue
}

// Checker checks domains. Make one with New.
type Checker struct {
	options   Options
	resolver  *dnscache.Cache
	engine    *gather.Engine // gathers facts for the answers of the maps
	endpoints *endpoints
}

// New returns a Checker.
func New(o Options) *Checker {
	o.SMTPPort = cmp.Or(o.SMTPPort, prefix.SMTPPort)
	o.Template.Timeout = cmp.Or(o.Template.Timeout, time.Minute)
	if !o.Template.At.IsZero() {
		o.Template.Postfix = nil // it can judge only the present
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
		Fetcher: &mtasts.Fetcher{Resolver: resolver, Roots: o.Template.Roots, Special: o.Special || !o.Careful,
			ProxyFromEnvironment: o.ProxyFromEnvironment},
	})
	engine := &gather.Engine{Resolver: resolver, Site: gather.Elsewhere{}, STS: sts}
	return &Checker{o, resolver, engine, newEndpoints()}
}

// domain is a domain being checked.
type domain struct {
	*Checker
	report   report.Report // without MX, which conclude adds from hosts
	facts    *policy.Facts
	decision policy.Decision // the result of policy.Survey
	hosts    []*host
}

// host is an MX host being checked.
type host struct {
	report report.Host
	addrs  []netip.Addr
	ports  []*port // the port of STARTTLS, and that of implicit TLS if the name promises it
}

// port is a port of a host.
type port struct {
	number      uint16
	implicit    bool                 // implicit TLS; otherwise STARTTLS
	codes       string               // the prefix of codes about it: "port25-" or "port26-"
	tested      bool                 // no option excludes connections to it
	dane        dane.Result          // for the port
	tlsa        *report.TLSA         // dane in the report
	transcripts []smtptls.Transcript // the dialogues, one per address
}

// Check checks a domain, given with U-labels or A-labels.
func (c *Checker) Check(ctx context.Context, input string) report.Report {
	d := &domain{Checker: c, report: report.Report{
		Input: strings.ToValidUTF8(input, "?"), Checked: time.Now().UTC().Truncate(time.Second), Set: "none",
		DNSSEC: dns.Indeterminate.String(), MX: []report.Host{}, Findings: []report.Finding{}, Commands: []string{},
		Why: []string{}, WhyTransport: []string{}, RRset: report.RRset{State: "failed"},
		Source: string(policy.SourceNone), Transport: socketmap.NotFound(),
		MTASTS: report.STSPolicy{State: "unknown"}, TLSRPT: report.TLSRPT{State: "failed"},
	}}
	d.report.At = cmp.Or(c.options.Template.At, d.report.Checked).UTC().Truncate(time.Second)
	d.showResolver()
	if name, ok := policy.ParseName(input); ok {
		d.report.Domain, d.report.Nexthop = name, name
		found := d.lookUpMX(ctx)
		d.facts = policy.NewFacts(policy.Nexthop{Name: name, Port: prefix.SMTPPort})
		d.decision = d.decide(ctx, policy.Survey)
		if found {
			d.lookUpHosts(ctx)
			d.showMTASTS(ctx)
			d.lookUpTLSRPT(ctx)
			d.connect(ctx)
			d.judge()
		}
		d.answer(ctx)
	} else {
		d.find("not-a-domain", report.Finding{}, "")
		d.report.RRset.Error = "not a domain name"
	}
	d.conclude()
	return d.report
}

// answer adds the answers of both maps, as if the prober had found what this check found.
func (d *domain) answer(ctx context.Context) {
	for i, h := range d.hosts {
		if h.report.TLSA26 != nil {
			d.facts.Hosts[i].Probe = d.verdict26(h)
		}
	}
	d.facts.Known.Probes = true
	d.report.TLSPolicy = d.decision.Reply(d.options.Policy, false)
	d.report.Source, d.report.Why = string(d.decision.Source()), d.decision.Why
	route := d.decide(ctx, policy.Route)
	d.report.Transport, d.report.WhyTransport = route.Reply(d.options.Policy, false), route.Why
}

// verdict26 returns the verdict that the prober would reach from the dialogues on the port of implicit TLS. The prober
// does not connect to hosts with special-purpose addresses, or with too many addresses.
func (d *domain) verdict26(h *host) probe.Verdict {
	if !d.options.Special && slices.ContainsFunc(h.addrs, address.Special) || len(h.addrs) > probe.MaxAddresses {
		return probe.Verdict{State: probe.Closed, Cause: smtptls.AddressNotAllowed}
	}
	if m := h.report.TLSA26.Matches; m != nil && !*m {
		return probe.Verdict{State: probe.Closed, Cause: smtptls.TLSAMismatch}
	}
	return probe.Judge(h.ports[1].transcripts)
}
