package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

const (
	lookupBudget    = 30 * time.Second // for all lookups that the answers of the maps need
	signatureMargin = 48 * time.Hour
	sideBySide      = 8 // concurrent lookups or connections for one domain
)

// showResolver adds the result of the resolver's self-test.
func (d *domain) showResolver() {
	st := d.options.Servers.State()
	d.report.Resolver = report.Resolver{Servers: append([]string{}, st.Servers...), Result: st.Result.String(),
		Reason: text.Printable(st.Reason)}
	if st.Result != stub.Validating {
		d.find("resolver-not-validating", report.Finding{}, cmp.Or(d.report.Resolver.Reason, d.report.Resolver.Result))
	}
}

// lookUpMX looks up the MX RRset. It returns false if there is nothing more to test.
func (d *domain) lookUpMX(ctx context.Context) bool {
	q := dns.Question{Name: d.report.Domain, Type: dns.TypeMX}
	rrset, err := d.resolver.Lookup(ctx, q, dns.Effort{})
	if err != nil {
		d.report.RRset.Error = policy.Cause(err)
		code := "mx-lookup-failed"
		if bogus(err) {
			code, d.report.DNSSEC = "mx-bogus", "bogus"
		}
		d.find(code, report.Finding{}, d.report.RRset.Error)
		return false
	}
	d.report.DNSSEC, d.report.RRset.Alias = rrset.Status.String(), aliasOf(d.report.Domain, rrset)
	d.report.RRset.TTL = max(int(math.Ceil(time.Until(rrset.Expires).Seconds())), 0)
	seen := map[string]int{}
	for _, mx := range rrset.MX() {
		seen[mx.Host]++
		if seen[mx.Host] == 2 {
			d.report.RRset.Duplicates = append(d.report.RRset.Duplicates, text.Printable(mx.Host))
			d.find("mx-duplicate", report.Finding{Host: mx.Host}, "")
		}
	}
	// An unsigned denial may be forged or wrong, so the addresses of the domain decide (RFC 5321 section 5.1). If their
	// lookup fails, the domain may have an address.
	itself := &host{report: report.Host{Host: d.report.Domain}}
	if rrset.NXDomain && rrset.Status != dns.Secure {
		d.lookUpAddresses(ctx, itself)
	}
	switch {
	case rrset.NXDomain && len(itself.addrs) == 0 && itself.report.AddressError == "":
		d.report.RRset.State = "nxdomain"
	case rrset.NXDomain || len(rrset.MX()) == 0:
		d.report.RRset.State = "implicit"
	case len(rrset.MX()) == 1 && rrset.MX()[0].Host == "":
		d.report.RRset.State = "null"
	default:
		d.report.RRset.State = "found"
	}
	d.judgeAll(report.Finding{}, []judgement{
		{"mx-alias", d.report.RRset.Alias != "", d.report.RRset.Alias},
		{"no-such-domain", d.report.RRset.State == "nxdomain", ""},
		{"mx-implicit", d.report.RRset.State == "implicit", ""},
		{"null-mx", d.report.RRset.State == "null", ""},
	})
	if d.report.RRset.State == "nxdomain" {
		d.report.TLSRPT.State = "absent" // like everything below the name (RFC 8020)
		return false
	}
	if rrset.Status != dns.Secure {
		return true
	}
	if end, ok := d.options.Servers.SignatureExpires(ctx, q); ok {
		d.report.RRset.SignatureExpires = new(end.UTC())
		if end.Before(d.report.At.Add(signatureMargin)) {
			d.find("mx-signature-expires", report.Finding{}, "on "+end.UTC().Format(time.DateTime)+" UTC")
		}
	}
	return true
}

// aliasOf returns the name at the end of the CNAME chain of a name, or "" if the name is not an alias.
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
		h := &host{report: report.Host{
			Host: text.Printable(f.Name), Preference: f.Preference, Prefix: f.Class.String(),
			Valid: prefix.ValidHost(f.Name),
			A:     dns.Indeterminate.String(), AAAA: dns.Indeterminate.String(), Addresses: []string{},
			Connections: []report.Connection{}, TLSA: showTLSA(f.DANE),
		}}
		h.ports = []*port{{number: d.options.SMTPPort, codes: "port25-", tested: !d.options.NoConnect,
			dane: f.DANE, tlsa: &h.report.TLSA}}
		if f.Class.ImplicitTLS() {
			h.report.TLSA26 = &report.TLSA{}
			h.ports = append(h.ports, &port{number: d.options.Policy.Port26, implicit: true, codes: "port26-",
				tested: !d.options.NoConnect && !d.options.Port25Only, tlsa: h.report.TLSA26})
		}
		d.hosts = append(d.hosts, h)
		if h.report.Valid {
			group.Go(func() error {
				d.lookUpAddresses(ctx, h)
				for _, p := range h.ports[1:] {
					if d.options.Policy.DANE {
						p.dane = dane.Lookup(ctx, d.resolver, dane.Query{Host: h.report.Host, Port: p.number})
					}
					*p.tlsa = showTLSA(p.dane)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // no error: what failed is in the hosts
	switch promises := len(d.facts.Prefixed()) > 0; {
	case promises && d.facts.Mixed():
		d.report.Set = "mixed"
	case promises:
		d.report.Set = "all"
	}
}

// decide gathers the facts for a decision, and returns the decision.
func (d *domain) decide(ctx context.Context, decider gather.Decider) policy.Decision {
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	decision, _ := d.engine.Decide(ctx, decider, d.facts, d.options.Policy, dns.Effort{}) // a failure is a fact
	return decision
}

// lookUpAddresses looks up the addresses of a host.
func (d *domain) lookUpAddresses(ctx context.Context, h *host) {
	states := map[dns.Type]*string{dns.TypeA: &h.report.A, dns.TypeAAAA: &h.report.AAAA}
	for _, family := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
		rrset, err := d.resolver.Lookup(ctx, dns.Question{Name: h.report.Host, Type: family}, dns.Effort{})
		if err != nil {
			h.report.AddressError = family.String() + ": " + policy.Cause(err)
			if bogus(err) {
				*states[family] = "bogus"
			}
			continue
		}
		*states[family] = rrset.Status.String()
		h.report.Alias = cmp.Or(aliasOf(h.report.Host, rrset), h.report.Alias)
		for _, a := range rrset.Addrs() {
			if !slices.Contains(h.addrs, a) {
				h.addrs = append(h.addrs, a)
				h.report.Addresses = append(h.report.Addresses, a.String())
			}
		}
	}
}

// showMTASTS adds what is known about MTA-STS.
func (d *domain) showMTASTS(ctx context.Context) {
	sts := d.facts.STS
	d.report.MTASTS = report.STSPolicy{State: sts.State.String(), Mode: string(sts.Policy.Mode), ID: sts.ID,
		MX: sts.Policy.MX, Why: sts.Why}
	if d.options.NoConnect {
		d.report.MTASTS = d.announcement(ctx)
	}
}

// lookUpTLSRPT looks up the record for reports about TLS.
func (d *domain) lookUpTLSRPT(ctx context.Context) {
	q := dns.Question{Name: "_smtp._tls." + d.report.Domain, Type: dns.TypeTXT}
	txt, err := d.resolver.Lookup(ctx, q, dns.Effort{})
	if err != nil {
		return
	}
	// RFC 8460 section 3: records that do not begin with the version are discarded; if several remain, none counts.
	var records []string
	for _, record := range txt.TXT() {
		if strings.HasPrefix(record, "v=TLSRPTv1;") {
			records = append(records, record)
		}
	}
	if len(records) == 0 {
		d.report.TLSRPT.State = "absent"
		return
	}
	d.report.TLSRPT.State, d.report.TLSRPT.Record = "invalid", text.Printable(records[0])
	if len(records) == 1 && strings.Contains(records[0], "rua=") {
		d.report.TLSRPT.State = "found"
	}
}

// announcement returns what is known about MTA-STS without fetching a policy.
func (d *domain) announcement(ctx context.Context) report.STSPolicy {
	txt, err := d.resolver.Lookup(ctx, mtasts.RecordQuestion(d.report.Domain), dns.Effort{})
	if err != nil {
		return report.STSPolicy{State: "failed", Why: policy.Cause(err)}
	}
	if id, err := mtasts.RecordID(txt.TXT()); err == nil {
		return report.STSPolicy{State: "announced", ID: id, Why: "the policy was not fetched"}
	}
	return report.STSPolicy{State: "absent"}
}

// showTLSA returns a DANE result as the report shows it.
func showTLSA(r dane.Result) report.TLSA {
	records := dns.RRset{Records: r.Records}
	return report.TLSA{State: r.State.String(), Records: records.Data(), Why: r.Why}
}

// bogus reports whether a lookup failed because DNSSEC validation failed.
func bogus(err error) bool {
	failed, ok := errors.AsType[*dns.Error](err)
	return ok && failed.Bogus
}
