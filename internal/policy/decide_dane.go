package policy

import (
	"slices"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// byDANE applies RFC 7672 where it decides. Each case below is one line of this table. "Promise" is a prefix that counts
// or an enforced MTA-STS policy; hosts without any address are left out.
//
//	MX RRset  hosts                                        promise  answer
//	insecure  any                                          yes      the rules that follow
//	any       all absent                                   any      the rules that follow
//	any       all failed                                   any      TEMP
//	insecure  the others                                   no       dane
//	secure    all usable, or usable and failed             any      dane-only
//	secure    some usable, some absent or unusable         yes      dane-only
//	secure    some usable, some absent or unusable         no       dane
//	secure    none usable                                  yes      the rules that follow; see undelivered
//	secure    none usable, some unusable, or some failed   no       dane
//
// While the MTA-STS policy is unknown, it counts as a promise.
func byDANE(f *Facts, o *Options, d *Decision) bool {
	if !o.DANE || len(f.Hosts) == 0 {
		return false
	}
	made, missing := promise(f, o)
	if !authentic(f) && (made || missing) {
		if missing {
			return d.lacks(Need{Required: FactSet{STS: true}, Expected: append(expectAddresses(f), expectTLSA(f, o)...)})
		}
		// An attacker who forges the MX RRset can publish TLSA records for a host of their own, and "dane" names no
		// host. With an insecure MX RRset a client may use DANE and need not (RFC 7672 section 2.2.1).
		d.because("DANE: the MX RRset is not signed, so the promise of the domain decides")
		return false
	}
	if hosts := f.withoutDANE(); hosts != 0 {
		return d.lacks(Need{Required: FactSet{DANE: hosts}, Expected: append(expectTLSA(f, o), expectSTS(f, o)...)})
	}
	port := portText(f.Nexthop.Port)
	count, failed := survey(f)
	usable, unusable, absent := count[dane.Usable], count[dane.Unusable], count[dane.Absent]
	switch {
	case usable+unusable+count[dane.Failed] == 0:
		d.because("DANE: no MX host that can be reached has secure TLSA records for port " + port)
		return false
	case usable+unusable+absent == 0:
		return d.unreachable(f, failed)
	case !authentic(f):
		// "dane-only" would defer indefinitely: Postfix requires a secure MX RRset for it.
		d.dane(LevelDANE, ReasonDANEInsecureMX, "DANE: each MX host that has secure TLSA records for port "+port+
			" is authenticated, but the MX RRset is not signed")
		d.Unsigned = true
	case usable > 0 && absent+unusable == 0:
		d.dane(LevelDANEOnly, ReasonDANEFull,
			"DANE: every MX host that can be reached has secure TLSA records for port "+port)
	case missing:
		return d.lacks(Need{Required: FactSet{STS: true}})
	case usable > 0 && made:
		// "secure" would let PKIX override a failing DANE validation, which RFC 8461 section 2 forbids, and "dane" would
		// use the other hosts without authentication.
		d.dane(LevelDANEOnly, ReasonDANEPartial, "DANE: some MX hosts have usable TLSA records for port "+port+
			", and the domain promises authenticated TLS: mail goes to those hosts only")
	case usable > 0:
		d.dane(LevelDANE, ReasonDANEPartial,
			"DANE: some MX hosts have usable TLSA records for port "+port+": those are authenticated")
	case made:
		d.because("DANE: no MX host has usable TLSA records for port " + port + ", so the promise of the domain decides")
		return false
	case unusable > 0:
		d.dane(LevelDANE, ReasonDANEUnusable,
			"DANE: unusable TLSA records require TLS without authentication (RFC 7672 section 2.2)")
	default:
		// NOTFOUND would give up DANE for a host whose lookup an attacker made fail once.
		d.dane(LevelDANE, ReasonDANEPartial, "DANE: "+failed+"; Postfix applies DANE to each host that it reaches")
	}
	return true
}

// dane answers with a level of DANE.
func (d *Decision) dane(level Level, r Reason, why string) {
	d.apply(SourceDANE, r, TLSPolicy{Level: level})
	d.because(why)
}

// unreachable defers, because every host failed: "If any DNS queries used to locate TLSA records fail …, then the SMTP
// client MUST treat that server as unreachable" (RFC 7672 section 2.1.2). A host in brackets that Postfix's own
// configuration names and that carries no prefix may be known to /etc/hosts only: deferring would stop all mail of
// this site.
func (d *Decision) unreachable(f *Facts, failed string) bool {
	if f.Nexthop.Host && prefix.Of(f.Nexthop.Name) == prefix.None {
		switch {
		case !f.RelayKnown:
			return d.lacks(Need{Required: FactSet{Relay: true}})
		case f.Relay:
			d.none(ReasonOwnRelay)
			d.because(failed)
			d.because("[" + f.Nexthop.Name + "] is a relay host in Postfix's own configuration and carries no prefix, so there is no policy")
			return true
		}
	}
	d.defers(ReasonDANEFailed, failed)
	return true
}

// authentic reports whether the names of the hosts are: DNSSEC protects the MX RRset, or the next hop is the host.
func authentic(f *Facts) bool { return f.Nexthop.Host || f.MX.signed() }

// promise reports whether a prefix counts for the next hop, or the domain has an enforced MTA-STS policy, or one that could
// not be had. missing is set when that depends on the policy and the policy has not been looked for.
func promise(f *Facts, o *Options) (made, missing bool) {
	match, mixed := prefixed(f)
	switch {
	case len(match) > 0 && dishonoured(f, mixed, o) == "":
		return true, false
	case !stsApplies(f, o) || f.Nexthop.Port != SMTPPort:
		return false, false
	case !f.stsKnown():
		return false, true
	}
	return enforced(f, o) || f.STS.State == mtasts.Unknown, false
}

// undelivered defers if a policy that verifies the names in match would let Postfix deliver to an MX host, of a signed
// MX RRset, whose lookups failed. Such a host "MUST [be treated] as unreachable" (RFC 7672 section 2.1.2), and a valid
// certificate does not replace DANE (RFC 8461 section 2). Leaving the host out of match= would not keep mail from it: it
// can share the certificate of another host.
func (d *Decision) undelivered(f *Facts, o *Options, match []string) bool {
	if !o.DANE || !authentic(f) {
		return false
	}
	for i := range f.Hosts {
		if h := &f.Hosts[i]; h.DANE.State == dane.Failed && slices.Contains(match, h.Name) {
			d.defers(ReasonDANEFailed, failure(f, h))
			return true
		}
	}
	return false
}

// survey counts the hosts by their DANE state, and returns what failed, "" if nothing did. On the port of implicit
// TLS only smtps- hosts count, where there are any: Postfix must not connect to the others.
func survey(f *Facts) (count map[dane.State]int, failed string) {
	count = map[dane.State]int{}
	match, _ := prefixed(f)
	prefixedOnly := f.Nexthop.Port != SMTPPort && len(match) > 0
	for i := range f.Hosts {
		h := &f.Hosts[i]
		if prefixedOnly && !h.Class.ImplicitTLS() {
			continue
		}
		count[h.DANE.State]++
		if h.DANE.State == dane.Failed {
			failed = failure(f, h)
		}
	}
	if f.MX.Rest > 0 && !prefixedOnly {
		count[dane.Absent]++ // the hosts beyond the bound count as hosts without TLSA records
	}
	return count, failed
}

// failure returns the failure of a host.
func failure(f *Facts, h *Host) string {
	if h.DANE.Why != "" {
		return text.Printable(h.DANE.Why)
	}
	what := "DANE lookup for port " + portText(f.Nexthop.Port) + " of " + text.Name(h.Name) + " failed"
	if h.DANE.Err != nil {
		what += ": " + Cause(h.DANE.Err)
	}
	return what
}
