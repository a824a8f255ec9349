// Package explain shows what policyd answers for a next hop, and why: for `policyd query` and the admin API. The next
// hop is evaluated as in a lookup, but without the consequences of one: nothing is logged, counted or recorded, no host
// becomes due for a probe, and no promise is remembered.
package explain

import (
	"context"
	"errors"

	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// Policy is the TLS policy for a next hop, for mail servers other than Postfix. Its JSON form is stable.
type Policy struct {
	Nexthop   string          `json:"nexthop"` // the next hop that was looked up, or the key if it is not a next hop
	DNSSEC    string          `json:"dnssec"`  // secure, insecure, bogus or indeterminate: the last two are failures
	TLSPolicy socketmap.Reply `json:"tls_policy"`
	// WouldTLSPolicy is the answer that mode = "enforce" gives. It differs from TLSPolicy only with mode = "report".
	WouldTLSPolicy socketmap.Reply `json:"would_tls_policy"`
	Source         string          `json:"source"`   // the mechanism that decided the TLS policy
	Unsigned       bool            `json:"unsigned"` // the promise depends on an unsigned MX RRset
	Why            []string        `json:"why"`      // the reasons for WouldTLSPolicy
}

// Result is what `policyd query` shows of one next hop. Its JSON form is stable.
type Result struct {
	Policy
	MX              []MXHost          `json:"mx"`
	MTASTS          *report.STSPolicy `json:"mta_sts"`           // null where MTA-STS is switched off or does not apply
	TLSPolicyTLSRPT socketmap.Reply   `json:"tls_policy_tlsrpt"` // what tls-policy-tlsrpt answers
	Transport       socketmap.Reply   `json:"transport"`
	WouldTransport  socketmap.Reply   `json:"would_transport"` // what transport would answer with mode = "enforce"
	WhyTransport    []string          `json:"why_transport"`   // the reasons for the route
	// Domain is the domain or host of the next hop, in A-labels and lower case, without brackets and port; "" if
	// the key is not a next hop. policyd check uses the same name.
	Domain string `json:"domain"`
}

// MXHost is one MX host in a Result.
type MXHost struct {
	Host       string `json:"host"`
	Preference uint16 `json:"preference"`
	Prefix     string `json:"prefix"` // starttls, smtps or none
	// DNSSEC is the status of the host's addresses: secure, insecure, or indeterminate where they could not be looked
	// up or were not needed.
	DNSSEC string `json:"dnssec"`
	// DANE and DANE26 are usable, unusable, absent, unreachable, failed, unknown or off, for port 25 and for the port
	// of implicit TLS; the latter is empty if it was not needed.
	DANE       string `json:"dane"`
	DANE26     string `json:"dane26,omitempty"`
	Probe      string `json:"probe,omitempty"`       // open, closed or unknown; empty for hosts that are not smtps-
	ProbeCause string `json:"probe_cause,omitempty"` // why it is closed
}

// Exit returns the exit status for the answer: 0 if a policy applies, 1 if none does, 3 if the lookup failed, which
// report mode does not hide.
func (r Result) Exit() int {
	switch would := r.WouldTLSPolicy.Status; {
	case would != socketmap.StatusOK && would != socketmap.StatusNotFound:
		return 3
	case r.TLSPolicy.Status == socketmap.StatusOK:
		return 0
	}
	return 1
}

// Nexthop evaluates the key of a tls-policy lookup. It waits for facts that are not cached: the policy and the route
// together take at most as long as a TLS-policy lookup. A failed lookup is part of the Result.
func Nexthop(ctx context.Context, engine *gather.Engine, key string, o policy.Options) Result {
	ctx, cancel := context.WithTimeout(ctx, gather.Budget)
	defer cancel()
	facts, routeFacts, shown := &policy.Facts{}, &policy.Facts{}, key
	decision := policy.Decision{Verdict: policy.None, Why: []string{"not a next hop that policyd answers for: give a " +
		"domain, [host], domain:port or [host]:port with port 25 or the port of implicit TLS"}}
	route := policy.Decision{Verdict: policy.None, Why: []string{"not a domain"}}
	next, ok := policy.ParseNexthop(key, o.Port26)
	if ok { // the errors are only of Effort.CacheOnly: a failed lookup is a fact
		facts, shown = policy.NewFacts(next), next.String()
		decision, _ = engine.Decide(ctx, policy.Survey, facts, o, dns.Effort{})
		routeFacts = facts
		if next.Port != prefix.SMTPPort { // Postfix asks for a route without a port
			routeFacts = policy.NewFacts(policy.Nexthop{Name: next.Name, Host: next.Host, Port: prefix.SMTPPort})
		}
		route, _ = engine.Decide(ctx, policy.Route, routeFacts, o, dns.Effort{})
		if route.Reason == policy.ReasonNoRoute {
			// Hosts of the site's own domains are not probed, so Route gives a reason that seems to end by itself.
			if own, why, _ := engine.Site.Own(ctx, next.Name, dns.Effort{}); own {
				route.Why = append(route.Why, "this site receives the domain: "+why)
			}
		}
	}
	tls, transport := decision.Reply(o, false), route.Reply(o, false)
	return Result{
		Policy: Policy{
			Nexthop: shown, DNSSEC: dnssec(facts.MX), TLSPolicy: o.Mode.Reply(tls), WouldTLSPolicy: tls,
			Source: string(decision.Source()), Unsigned: decision.Unsigned, Why: decision.Why,
		},
		Domain: next.Name, MX: hosts(facts, routeFacts, o), MTASTS: stsPolicy(facts, o),
		TLSPolicyTLSRPT: o.Mode.Reply(decision.Reply(o, true)),
		Transport:       o.Mode.Reply(transport), WouldTransport: transport, WhyTransport: route.Why,
	}
}

// hosts returns the MX hosts as they are shown, with what was found out for the route.
func hosts(facts, routeFacts *policy.Facts, o policy.Options) []MXHost {
	list := make([]MXHost, 0, len(facts.Hosts))
	line := o.Overrides.For(facts.Nexthop.Name)
	for i, h := range facts.Hosts {
		if i < len(routeFacts.Hosts) && routeFacts.Hosts[i].Name == h.Name {
			h.DANE26, h.Probe = routeFacts.Hosts[i].DANE26, routeFacts.Hosts[i].Probe
		}
		m := MXHost{Host: h.Name, Preference: h.Preference, Prefix: h.Class.String(), DNSSEC: h.DANE.Addresses.String(),
			DANE: h.DANE.State.String()}
		if !o.DANE {
			m.DANE = "off"
		}
		if h.Class.ImplicitTLS() {
			m.DANE26 = string(h.DANE26.State)                           // "" if it was not needed
			if o.Port26Mode == policy.PortProbe && line.Pattern == "" { // otherwise no route can follow
				m.Probe, m.ProbeCause = h.Probe.State.String(), string(h.Probe.Cause)
			}
		}
		list = append(list, m)
	}
	return list
}

// stsPolicy returns the MTA-STS policy as it is shown; nil where MTA-STS is switched off or does not apply.
func stsPolicy(f *policy.Facts, o policy.Options) *report.STSPolicy {
	if !o.MTASTS || f.Nexthop.Host || f.STS.Domain == "" {
		return nil
	}
	return &report.STSPolicy{State: f.STS.State.String(), Mode: string(f.STS.Policy.Mode), ID: f.STS.ID,
		MX: f.STS.Policy.MX, Why: f.STS.Why}
}

// dnssec returns the security status of the MX RRset, or "bogus".
func dnssec(mx policy.MX) string {
	if failed, ok := errors.AsType[*dns.Error](mx.Err); ok && failed.Bogus {
		return "bogus"
	}
	return mx.Status.String()
}
