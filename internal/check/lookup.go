package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

const (
	lookupBudget    = 30 * time.Second // for all lookups that the answers of the maps need
	signatureMargin = 48 * time.Hour
	sideBySide      = 8 // lookups or connections for one domain
)

// host is an MX host being checked.
type host struct {
	report.Host
	addrs []netip.Addr
	ports []*port // that of STARTTLS, and that of implicit TLS if the name promises it
}

// port is a port of a host.
type port struct {
	number   uint16
	implicit bool         // TLS
	codes    string       // the beginning of the codes about it
	tested   bool         // connections to it are not left out
	dane     dane.Result  // for the port
	tlsa     *report.TLSA // dane in the report
	heard    []smtptls.Transcript
}

func (d *domain) showResolver() {
	st := d.o.Servers.State()
	d.Resolver = report.Resolver{Servers: append([]string{}, st.Servers...), Result: st.Result.String(),
		Reason: text.Printable(st.Reason)}
	if st.Result != stub.Validating {
		d.find("resolver-not-validating", report.Finding{}, cmp.Or(d.Resolver.Reason, d.Resolver.Result))
	}
}

// lookUpMX looks up the MX RRset. It returns false where that ends the matter.
func (d *domain) lookUpMX(ctx context.Context) bool {
	q := dns.Question{Name: d.Domain, Type: dns.TypeMX}
	rrset, err := d.resolver.Lookup(ctx, q, dns.Effort{})
	if err != nil {
		d.RRset.Error = policy.Cause(err)
		code := "mx-lookup-failed"
		if bogus(err) {
			code, d.DNSSEC = "mx-bogus", "bogus"
		}
		d.find(code, report.Finding{}, d.RRset.Error)
		return false
	}
	d.DNSSEC, d.RRset.Alias = rrset.Status.String(), aliasOf(d.Domain, rrset)
	d.RRset.TTL = max(int(math.Ceil(time.Until(rrset.Expires).Seconds())), 0)
	seen := map[string]int{}
	for _, mx := range rrset.MX() {
		if seen[mx.Host]++; seen[mx.Host] == 2 {
			d.RRset.Duplicates = append(d.RRset.Duplicates, text.Printable(mx.Host))
			d.find("mx-duplicate", report.Finding{Host: mx.Host}, "")
		}
	}
	// Where nothing is signed, the denial may be forged or wrong: the addresses of the domain decide (RFC 5321 section
	// 5.1), and it may have one if their lookup fails.
	itself := &host{Host: report.Host{Host: d.Domain}}
	if rrset.NXDomain && rrset.Status != dns.Secure {
		d.lookUpAddresses(ctx, itself)
	}
	switch {
	case rrset.NXDomain && len(itself.addrs) == 0 && itself.AddressError == "":
		d.RRset.State = "nxdomain"
	case rrset.NXDomain || len(rrset.MX()) == 0:
		d.RRset.State = "implicit"
	case len(rrset.MX()) == 1 && rrset.MX()[0].Host == "":
		d.RRset.State = "null"
	default:
		d.RRset.State = "found"
	}
	d.judgeAll(report.Finding{}, []judgement{
		{"mx-alias", d.RRset.Alias != "", d.RRset.Alias},
		{"no-such-domain", d.RRset.State == "nxdomain", ""},
		{"mx-implicit", d.RRset.State == "implicit", ""},
		{"null-mx", d.RRset.State == "null", ""},
	})
	if d.RRset.State == "nxdomain" {
		d.TLSRPT.State = "absent" // like everything below the name (RFC 8020)
		return false
	}
	if rrset.Status != dns.Secure {
		return true
	}
	if end, ok := d.o.Servers.SignatureExpires(ctx, q); ok {
		d.RRset.SignatureExpires = new(end.UTC())
		if end.Before(d.At.Add(signatureMargin)) {
			d.find("mx-signature-expires", report.Finding{}, "on "+end.UTC().Format(time.DateTime)+" UTC")
		}
	}
	return true
}

// aliasOf returns the name at the end of the CNAME chain of a name, "" where there is none.
func aliasOf(name string, rrset *dns.RRset) string {
	if rrset.Owner == name {
		return ""
	}
	return text.Printable(rrset.Owner)
}

// lookUpHosts looks up the addresses of the hosts, and DANE for the port of implicit TLS.
func (d *domain) lookUpHosts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	if d.facts.MX.Rest > 0 {
		d.find("mx-too-many", report.Finding{}, fmt.Sprintf("there are %d", d.facts.MX.Rest+len(d.facts.Hosts)))
	}
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for i := range d.facts.Hosts {
		f := &d.facts.Hosts[i]
		h := &host{Host: report.Host{
			Host: text.Printable(f.Name), Preference: f.Preference, Prefix: f.Class.String(),
			Valid: prefix.ValidHost(f.Name),
			A:     dns.Indeterminate.String(), AAAA: dns.Indeterminate.String(), Addresses: []string{},
			Connections: []report.Connection{}, TLSA: showTLSA(f.DANE),
		}}
		h.ports = []*port{{number: d.o.SMTPPort, codes: "port25-", tested: !d.o.NoConnect, dane: f.DANE, tlsa: &h.TLSA}}
		if f.Class.ImplicitTLS() {
			h.TLSA26 = &report.TLSA{}
			h.ports = append(h.ports, &port{number: d.o.Policy.Port26, implicit: true, codes: "port26-",
				tested: !d.o.NoConnect && !d.o.Port25Only, tlsa: h.TLSA26})
		}
		d.hosts = append(d.hosts, h)
		if h.Valid {
			group.Go(func() error {
				d.lookUpAddresses(ctx, h)
				for _, p := range h.ports[1:] {
					if d.o.Policy.DANE {
						p.dane = dane.Lookup(ctx, d.resolver, dane.Query{Host: h.Host.Host, Port: p.number})
					}
					*p.tlsa = showTLSA(p.dane)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // no error: what failed is in the hosts
	switch promising, mixed := d.facts.Prefixed(), d.facts.Mixed(); {
	case len(promising) > 0 && mixed:
		d.Set = "mixed"
	case len(promising) > 0:
		d.Set = "all"
	}
}

// decide returns a decision, after gathering the facts that it follows from.
func (d *domain) decide(ctx context.Context, decider gather.Decider) policy.Decision {
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	decision, _ := d.engine.Decide(ctx, decider, d.facts, d.o.Policy, dns.Effort{}) // a failure is a fact
	return decision
}

// lookUpAddresses looks up the addresses of a host.
func (d *domain) lookUpAddresses(ctx context.Context, h *host) {
	states := map[dns.Type]*string{dns.TypeA: &h.A, dns.TypeAAAA: &h.AAAA}
	for _, family := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
		rrset, err := d.resolver.Lookup(ctx, dns.Question{Name: h.Host.Host, Type: family}, dns.Effort{})
		if err != nil {
			h.AddressError = family.String() + ": " + policy.Cause(err)
			if bogus(err) {
				*states[family] = "bogus"
			}
			continue
		}
		*states[family] = rrset.Status.String()
		h.Alias = cmp.Or(aliasOf(h.Host.Host, rrset), h.Alias)
		for _, a := range rrset.Addrs() {
			if !slices.Contains(h.addrs, a) {
				h.addrs = append(h.addrs, a)
				h.Addresses = append(h.Addresses, a.String())
			}
		}
	}
}

// lookUpContext looks at MTA-STS and TLSRPT.
func (d *domain) lookUpContext(ctx context.Context) {
	sts := d.facts.STS
	d.MTASTS = report.STSPolicy{State: sts.State.String(), Mode: string(sts.Policy.Mode), ID: sts.ID,
		MX: sts.Policy.MX, Why: sts.Why}
	if d.o.NoConnect {
		d.MTASTS = d.announcement(ctx)
	}
	txt, err := d.resolver.Lookup(ctx, dns.Question{Name: "_smtp._tls." + d.Domain, Type: dns.TypeTXT}, dns.Effort{})
	if err != nil {
		return
	}
	d.TLSRPT.State = "absent"
	for _, record := range txt.TXT() {
		// RFC 8460 section 3: records that do not begin with the version are discarded, and of several none counts.
		if strings.HasPrefix(record, "v=TLSRPTv1;") {
			sound := d.TLSRPT.State == "absent" && strings.Contains(record, "rua=")
			d.TLSRPT = report.TLSRPT{State: map[bool]string{true: "found", false: "invalid"}[sound],
				Record: cmp.Or(d.TLSRPT.Record, text.Printable(record))}
		}
	}
}

// announcement is what is known about MTA-STS without fetching a policy.
func (d *domain) announcement(ctx context.Context) report.STSPolicy {
	txt, err := d.resolver.Lookup(ctx, mtasts.RecordQuestion(d.Domain), dns.Effort{})
	if err != nil {
		return report.STSPolicy{State: "failed", Why: policy.Cause(err)}
	}
	if id, err := mtasts.RecordID(txt.TXT()); err == nil {
		return report.STSPolicy{State: "announced", ID: id, Why: "the policy was not fetched"}
	}
	return report.STSPolicy{State: "absent"}
}

// answer makes the answers of both maps, as if the prober had found what was found here.
func (d *domain) answer(ctx context.Context) {
	for i, h := range d.hosts {
		if h.TLSA26 != nil {
			d.facts.Hosts[i].Probe = d.verdict26(h)
		}
	}
	d.facts.Known.Probes = true
	d.TLSPolicy, d.Source, d.Why = d.decision.Reply(d.o.Policy, false), string(d.decision.Source()), d.decision.Why
	route := d.decide(ctx, policy.Route)
	d.Transport, d.WhyTransport = route.Reply(d.o.Policy, false), route.Why
}

// verdict26 is what the prober would make of what was heard on the port of implicit TLS. It does not connect to hosts
// with special-purpose addresses, or with too many.
func (d *domain) verdict26(h *host) probe.Verdict {
	if !d.o.Special && slices.ContainsFunc(h.addrs, address.Special) || len(h.addrs) > probe.MaxAddresses {
		return probe.Verdict{State: probe.Closed, Cause: smtptls.AddressNotAllowed}
	}
	if m := h.TLSA26.Matches; m != nil && !*m {
		return probe.Verdict{State: probe.Closed, Cause: smtptls.TLSAMismatch}
	}
	return probe.Judge(h.ports[1].heard)
}

func showTLSA(r dane.Result) report.TLSA {
	records := dns.RRset{Records: r.Records}
	return report.TLSA{State: r.State.String(), Records: records.Data(), Why: r.Why}
}

// bogus reports whether the resolver said that validation failed.
func bogus(err error) bool {
	failed, ok := errors.AsType[*dns.Error](err)
	return ok && failed.Bogus
}
