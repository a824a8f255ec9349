package policy

import (
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/prefix"
)

// Decide returns the TLS policy for f.Nexthop, and in Need the facts that are missing. While Need.Required is not
// empty, the rest of the Decision does not count: find these facts and call Decide again.
//
// The rules are tried in this order until one of them decides. A rule that does not apply may add the reason to Why.
// A list of functions would move f, o and d to the heap: 850 bytes and 0.2 µs more for each Decide.
func Decide(f Facts, o Options) (d Decision) {
	switch {
	case byOperator(&f, &o, &d):
	case unknownMX(&f, &d):
	case byDANE(&f, &o, &d):
	case byPrefix(&f, &o, &d):
	case bySTS(&f, &o, &d):
	case byVanishedPromise(&f, &o, &d):
	default:
		noPolicy(&f, &d)
	}
	d.Unsigned = d.Verdict == Apply && d.Reason != ReasonOverride && !f.authentic()
	warnOfAddressLimit(&f, &d)
	return d
}

// byOperator obeys the operator before anything else.
func byOperator(f *Facts, o *Options, d *Decision) bool {
	line := o.Overrides.For(f.Nexthop.Name)
	switch {
	case o.Mode == ModeOff:
		return d.none(ReasonOff, `mode = "off": every lookup gets NOTFOUND`)
	case line.Ignore:
		return d.none(ReasonOverride, line.why())
	case line.Policy != "":
		return d.apply(ReasonOverride, TLSPolicy{Level: LevelLiteral, Literal: line.Policy}, line.why())
	}
	return undecided
}

// unknownMX defers when the MX lookup failed: a bogus or withheld answer must not hide a promise (RFC 4035 section 5.5,
// RFC 7672 section 2.1.2).
func unknownMX(f *Facts, d *Decision) bool {
	switch {
	case f.Nexthop.Host: // there is no MX lookup
	case f.MX.Err != nil:
		return d.defers(ReasonMXFailed, "MX lookup for "+f.Nexthop.Name+" failed: "+Cause(f.MX.Err))
	case !f.Known.MX:
		return d.lacks(Need{Required: FactSet{MX: true}})
	case f.MX.Rest > 0:
		d.because("there are more than 32 MX hosts: the others count as having neither a prefix nor TLSA records")
	}
	return undecided
}

// byDANE applies RFC 7672 where it decides. The first matching line of this table counts. "Promise" is a prefix that
// counts or an enforced MTA-STS policy; hosts without any address are left out.
//
//	MX RRset  hosts                                        promise  answer
//	insecure  any                                          yes      the rules that follow
//	any       all absent                                   any      the rules that follow
//	any       all failed                                   any      TEMP; no policy for an own relay host (relay.go)
//	insecure  the others                                   no       dane
//	secure    all usable, or usable and failed             any      dane-only
//	secure    some usable, some absent or unusable         yes      dane-only
//	secure    some usable, some absent or unusable         no       dane
//	secure    none usable                                  yes      the rules that follow; see secure
//	secure    none usable, some unusable, or some failed   no       dane
//
// While the MTA-STS policy is unknown, it counts as a promise.
func byDANE(f *Facts, o *Options, d *Decision) bool {
	if !o.DANE || len(f.Hosts) == 0 {
		return undecided
	}
	promised, missing := promise(f, o)
	switch {
	case !f.authentic() && missing:
		return d.lacks(Need{Required: FactSet{STS: true}, Expected: expected(f, o, true)})
	case !f.authentic() && promised:
		// An attacker who forges the MX RRset can publish TLSA records for a host of their own, and "dane" names no
		// host. With an insecure MX RRset a client may use DANE but need not (RFC 7672 section 2.2.1).
		return d.because("DANE: the MX RRset is not signed, so the promise of the domain decides")
	}
	if hosts := daneUnknown(f.Hosts); hosts != 0 {
		return d.lacks(Need{Required: FactSet{DANE: hosts}, Expected: expected(f, o, false)})
	}
	count := map[dane.State]int{} // on the stack
	failed := countDANE(f, count)
	usable, unusable, absent := count[dane.Usable], count[dane.Unusable], count[dane.Absent]
	answer := func(level Level, r Reason, why string) bool { return d.apply(r, TLSPolicy{Level: level}, "DANE: "+why) }
	records := "TLSA records for port " + portText(f.Nexthop.Port)
	switch {
	case usable+unusable+count[dane.Failed] == 0:
		return d.because("DANE: no MX host that can be reached has secure " + records)
	case usable+unusable+absent == 0:
		// "If any DNS queries used to locate TLSA records fail …, then the SMTP client MUST treat that server as
		// unreachable" (RFC 7672 section 2.1.2).
		return allHostsFailed(f, d, failed)
	case !f.authentic():
		// "dane-only" would defer indefinitely: Postfix requires a secure MX RRset for it.
		return answer(LevelDANE, ReasonDANEInsecureMX, "each MX host that has secure "+records+
			" is authenticated, but the MX RRset is not signed")
	case usable > 0 && absent+unusable == 0:
		return answer(LevelDANEOnly, ReasonDANEFull, "every MX host that can be reached has secure "+records)
	case missing:
		return d.lacks(Need{Required: FactSet{STS: true}})
	case usable > 0 && promised:
		// "secure" would let PKIX override a failing DANE validation, which RFC 8461 section 2 forbids, and "dane"
		// would use the other hosts without authentication.
		return answer(LevelDANEOnly, ReasonDANEPartial, "some MX hosts have usable "+records+
			", and the domain promises authenticated TLS: mail goes to those hosts only")
	case usable > 0:
		return answer(LevelDANE, ReasonDANEPartial, "some MX hosts have usable "+records+": those are authenticated")
	case promised:
		return d.because("DANE: no MX host has usable " + records + ", so the promise of the domain decides")
	case unusable > 0:
		return answer(LevelDANE, ReasonDANEUnusable,
			"unusable TLSA records require TLS without authentication (RFC 7672 section 2.2)")
	}
	// NOTFOUND would give up DANE for a host whose lookup an attacker made fail once.
	return answer(LevelDANE, ReasonDANEPartial, failed+"; Postfix applies DANE to each host that it reaches")
}

// byPrefix honours the promise in the names of the MX hosts. An enforced MTA-STS policy narrows it: "senders MUST NOT
// deliver the message to hosts that fail MX matching or certificate validation" (RFC 8461 section 5).
func byPrefix(f *Facts, o *Options, d *Decision) bool {
	match := f.Prefixed()
	if len(match) == 0 {
		return undecided
	}
	if why := whyPrefixIgnored(f, o); why != "" {
		return d.because(why)
	}
	p := TLSPolicy{Match: match}
	switch {
	case stsMissing(f, o):
		return d.lacks(Need{Required: FactSet{STS: true}, Brief: true})
	case stsUnknown(f, o):
		return d.defers(ReasonSTSUnknown, "the MTA-STS policy of "+f.Nexthop.Name+" is not known: "+stsFailure(f.STS))
	case stsEnforced(f, o):
		p.Match = slices.DeleteFunc(slices.Clone(match), func(host string) bool { return !f.STS.Policy.Matches(host) })
		narrowed := f.STS.Policy
		narrowed.MX = p.Match // Postfix 3.10.5 and later connect to no other host; Raw is the policy as it is reported
		p.STS = &mtasts.Result{Domain: f.Nexthop.Name, Policy: narrowed}
	}
	switch {
	case len(p.Match) == 0 && f.Nexthop.Port != prefix.SMTPPort:
		return d.defers(ReasonSTSConflict, "the MTA-STS policy of "+f.Nexthop.Name+" allows none of its smtps- hosts")
	case len(p.Match) == 0:
		return d.because("conflict: the MTA-STS policy allows none of the prefixed hosts, so it decides alone")
	}
	reason, why := ReasonPrefixAll, []string{"every MX host carries a prefix"}
	if f.Nexthop.Host {
		why = []string{"the next hop is a host whose name carries a prefix"}
	} else if f.Mixed() {
		reason, why = ReasonPrefixMixed, []string{"some MX hosts carry a prefix: mail goes through those only"}
	}
	if len(p.Match) < len(match) {
		why = append(why, "of these, the MTA-STS policy allows those in match= only")
	}
	if !f.authentic() {
		why = append(why, "the MX RRset is not signed: an attacker who can forge DNS can hide the promise")
	}
	return secure(f, o, d, reason, p, why...)
}

// bySTS enforces the domain's MTA-STS policy, RFC 8461 section 5. On the port of implicit TLS only smtps- hosts are
// used, and byPrefix decides about those. An unsigned null MX may be forged, but the policy is authentic.
func bySTS(f *Facts, o *Options, d *Decision) bool {
	forgedNull := f.MX.Null && !f.MX.signed()
	switch {
	case !o.MTASTS || f.Nexthop.Host || f.Nexthop.Port != prefix.SMTPPort || len(f.Hosts) == 0 && !forgedNull:
		return undecided
	case stsMissing(f, o):
		return d.lacks(Need{Required: FactSet{STS: true}})
	case stsUnknown(f, o):
		return d.defers(ReasonSTSUnknown, "the MTA-STS policy of "+f.Nexthop.Name+" is not known: "+stsFailure(f.STS))
	case f.STS.State == mtasts.Failed:
		// "senders MUST continue with delivery as though the domain has not implemented MTA-STS" (section 3.3).
		return d.because("MTA-STS: the policy could not be obtained, and none is cached: " + stsFailure(f.STS))
	case f.STS.State == mtasts.Absent:
		return d.because("MTA-STS: the domain announces no policy")
	case !stsEnforced(f, o):
		return d.because("MTA-STS: the policy has mode " + string(f.STS.Policy.Mode) + ": nothing is enforced")
	}
	match, broken := stsMatch(f)
	if len(match) == 0 {
		return d.defers(ReasonSTSNoHost, "no MX host of "+f.Nexthop.Name+" is allowed by its MTA-STS policy")
	}
	reason, why := ReasonSTSEnforce, []string{"MTA-STS: the policy is enforced, id " + f.STS.ID}
	if broken != "" {
		reason, why = ReasonSTSNoHost, []string{"MTA-STS: the policy is enforced, and it allows no MX host"}
	}
	if f.STS.Stale {
		why = append(why, "MTA-STS: the cached policy remains valid, although the domain could not confirm it now: "+
			stsFailure(f.STS))
	}
	sts := &mtasts.Result{Domain: f.Nexthop.Name, Policy: f.STS.Policy, Failure: broken}
	return secure(f, o, d, reason, TLSPolicy{Match: match, STS: sts}, why...)
}

// stsMatch returns what a certificate must name. Postfix has no pattern for exactly one label, so the MX hosts that the
// policy allows are listed. Where it allows none of them, the patterns of the policy are listed, except those that
// would match a host that the policy excludes; broken is then the failure of the policy.
func stsMatch(f *Facts) (match []string, broken mtasts.Failure) {
	for i := range f.Hosts {
		if h := f.Hosts[i].Name; prefix.ValidHost(h) && f.STS.Policy.Matches(h) {
			match = append(match, h)
		}
	}
	if len(match) == 0 {
		broken = "validation-failure" // RFC 8460 section 4.3.2.2
		for _, pattern := range f.STS.Policy.MX {
			// Postfix's pattern .example.com matches hosts with more labels, which "*.example.com" of MTA-STS does not.
			name := strings.TrimPrefix(pattern, "*")
			below := func(h Host) bool { return strings.HasSuffix(h.Name, name) }
			deeper := strings.HasPrefix(name, ".") && (f.MX.Rest > 0 || slices.ContainsFunc(f.Hosts, below))
			if prefix.ValidHost(strings.TrimPrefix(name, ".")) && !deeper {
				match = append(match, name)
			}
		}
	}
	slices.Sort(match)
	return slices.Compact(match), broken
}

// secure answers with the policy that only the hosts in p.Match satisfy. It defers if one of these is an MX host in a
// signed MX RRset and its lookups failed. Such a host "MUST [be treated] as unreachable" (RFC 7672 section 2.1.2), and
// a valid certificate does not replace DANE (RFC 8461 section 2). Leaving the host out of match= would not keep mail
// from it: it can share the certificate of another host. A name that is not a host name, or an empty list, also defers.
func secure(f *Facts, o *Options, d *Decision, r Reason, p TLSPolicy, why ...string) bool {
	invalid := func(name string) bool { return !prefix.ValidHost(strings.TrimPrefix(name, ".")) }
	failed := func(h Host) bool { return h.DANE.State == dane.Failed && slices.Contains(p.Match, h.Name) }
	i := slices.IndexFunc(f.Hosts, failed)
	switch {
	case len(p.Match) == 0 || slices.ContainsFunc(p.Match, invalid):
		return d.defers(r, "internal error: the policy does not name valid hosts")
	case i >= 0 && o.DANE && f.authentic():
		return d.defers(ReasonDANEFailed, failure(f, &f.Hosts[i]))
	}
	p.Level = LevelSecure
	return d.apply(r, p, why...)
}

// noPolicy answers that there is no policy, and adds the reason why the domain has no promise.
func noPolicy(f *Facts, d *Decision) {
	d.none(ReasonNone)
	switch {
	case f.MX.NXDomain:
		d.because("the domain does not exist")
	case f.MX.Null:
		d.because("null MX: the domain accepts no mail (RFC 7505)")
	case f.MX.Implicit:
		d.because("no MX RRset: an implicit MX carries no prefix (RFC 5321 section 5.1)")
	case len(f.Prefixed()) == 0:
		d.because(noPrefix(f))
	}
}
