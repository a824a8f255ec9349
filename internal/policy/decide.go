package policy

import (
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// rules are all rules, in the order in which they are tried: the first that applies decides. A rule looks at the facts. If
// it applies, it fills in the decision and returns true. It also returns true when a fact that it depends on is missing,
// after it has called lacks. A rule that does not apply may add the reason to Why.
func rules() [8]func(f *Facts, o *Options, d *Decision) bool {
	return [...]func(*Facts, *Options, *Decision) bool{switchedOff, override, unknownMX, byDANE, byPrefix, bySTS, byMemory, noPolicy}
}

// lacks records missing facts that a rule depends on, and returns true. The decision then defers.
func (d *Decision) lacks(n Need) bool {
	d.defers(ReasonMXFailed, "no facts were gathered")
	d.need = n
	return true
}

// Decide returns the TLS policy for f.Nexthop, and the facts that are missing. While Need.Required is not empty, the
// Decision defers: find these facts and call Decide again.
func Decide(f Facts, o Options) (Decision, Need) {
	var d Decision
	for _, rule := range rules() {
		if rule(&f, &o, &d) {
			break
		}
	}
	reach(&f, &d)
	return d.split()
}

// split returns the decision and its need apart.
func (d Decision) split() (Decision, Need) {
	n := d.need
	d.need = Need{}
	return d, n
}

func switchedOff(_ *Facts, o *Options, d *Decision) bool {
	if o.Mode != ModeOff {
		return false
	}
	d.none(ReasonOff)
	d.because(`mode = "off": every lookup gets NOTFOUND`)
	return true
}

// override obeys the operator before anything else.
func override(f *Facts, _ *Options, d *Decision) bool {
	switch {
	case f.Override.Ignore:
		d.none(ReasonOverride)
		d.Source = SourceOverride
	case f.Override.Policy != "":
		d.apply(SourceOverride, ReasonOverride, TLSPolicy{Level: LevelLiteral, Literal: f.Override.Policy})
	default:
		return false
	}
	d.because("the overrides file has a line for " + f.Override.Pattern)
	return true
}

// unknownMX defers when the MX lookup failed: a bogus or withheld answer must not hide a promise (RFC 4035 section 5.5,
// RFC 7672 section 2.1.2).
func unknownMX(f *Facts, _ *Options, d *Decision) bool {
	switch {
	case f.Nexthop.Name == "":
		d.defers(ReasonMXFailed, "no facts were gathered")
	case f.Nexthop.Host:
		return false
	case f.MX.Err != nil:
		d.defers(ReasonMXFailed, "MX lookup for "+f.Nexthop.Name+" failed: "+Cause(f.MX.Err))
	case !f.MX.Asked:
		return d.lacks(Need{Required: FactSet{MX: true}})
	default:
		return false
	}
	return true
}

// byPrefix honours the promise in the names of the MX hosts.
func byPrefix(f *Facts, o *Options, d *Decision) bool {
	match, mixed := prefixed(f)
	if len(match) == 0 {
		return false
	}
	if why := dishonoured(f, mixed, o); why != "" {
		d.because(why)
		return false
	}
	allowed := match
	if stsApplies(f, o) {
		switch {
		case !f.stsKnown():
			return d.lacks(Need{Required: FactSet{STS: true}, Brief: true})
		case f.STS.State == mtasts.Unknown:
			d.defers(ReasonSTSUnknown, "the MTA-STS policy of "+f.Nexthop.Name+" is not known: "+stsFailure(f.STS))
			return true
		case enforced(f, o):
			allowed = slices.DeleteFunc(slices.Clone(match), func(host string) bool { return !f.STS.Policy.Matches(host) })
		}
	}
	switch {
	case len(allowed) > 0:
	case f.Nexthop.Port != SMTPPort:
		d.defers(ReasonSTSConflict, "the MTA-STS policy of "+f.Nexthop.Name+" allows none of its smtps- hosts")
		return true
	default:
		// A host that the policy does not name must not get the mail (RFC 8461 section 5).
		d.because("conflict: the MTA-STS policy allows none of the prefixed hosts, so it decides alone")
		return false
	}
	switch {
	case d.undelivered(f, o, allowed):
		return true
	case f.Nexthop.Host:
		d.secure(SourcePrefix, ReasonPrefixAll, allowed)
		d.because("the next hop is a host whose name carries a prefix")
		return true
	case mixed:
		d.secure(SourcePrefix, ReasonPrefixMixed, allowed)
		d.because("some MX hosts carry a prefix: mail goes through those only")
	default:
		d.secure(SourcePrefix, ReasonPrefixAll, allowed)
		d.because("every MX host carries a prefix")
	}
	if enforced(f, o) {
		narrowed := f.STS.Policy
		narrowed.MX = allowed // Postfix 3.10.5 and later connect to no other host; Raw is the policy as it is reported
		d.TLS.STS = &mtasts.Result{Domain: f.Nexthop.Name, Policy: narrowed}
	}
	if len(allowed) < len(match) {
		d.because("of these, the MTA-STS policy allows those in match= only")
	}
	if d.Unsigned = !f.MX.signed(); d.Unsigned {
		d.because("the MX RRset is not signed: an attacker who can forge DNS can hide the promise")
	}
	return true
}

// secure answers with the policy that only the hosts in match satisfy. A name that is not a host name, or an empty
// list, defers.
func (d *Decision) secure(s Source, r Reason, match []string) {
	for _, m := range match {
		if !prefix.ValidHost(strings.TrimPrefix(m, ".")) {
			d.defers(r, "internal error: not a host name in a policy")
			return
		}
	}
	if len(match) == 0 {
		d.defers(r, "internal error: a policy that no host satisfies")
		return
	}
	d.apply(s, r, TLSPolicy{Level: LevelSecure, Match: match})
}

// dishonoured returns the reason why the settings make policyd ignore the prefixes of a domain; "" if they count.
func dishonoured(f *Facts, mixed bool, o *Options) string {
	switch {
	case !authentic(f) && o.UnsignedMX == Ignore:
		return `prefix: the MX RRset is not signed, and unsigned_mx = "ignore"`
	case mixed && o.MixedMX == Ignore:
		return `prefix: not every MX host carries one, and mixed_mx = "ignore"`
	}
	return ""
}

// prefixed returns the names of the hosts that promise a valid certificate on the port of the next hop, sorted, and
// whether the set has a host without any prefix. For a next hop in brackets the host is the next hop.
func prefixed(f *Facts) (match []string, mixed bool) {
	mixed = f.MX.Rest > 0
	for i := range f.Hosts {
		switch h := &f.Hosts[i]; {
		case h.Class == prefix.None:
			mixed = true
		case h.Class.Promises(f.Nexthop.Port):
			match = append(match, h.Name)
		}
	}
	slices.Sort(match)
	return match, mixed
}

// noPolicy adds the reason why the domain has no promise.
func noPolicy(f *Facts, _ *Options, d *Decision) bool {
	d.none(ReasonNone)
	switch {
	case f.Nexthop.Host:
		d.because(noPrefix(f))
	case f.MX.NXDomain:
		d.because("the domain does not exist")
	case f.MX.Null:
		d.because("null MX: the domain accepts no mail (RFC 7505)")
	case f.MX.Implicit:
		d.because("no MX RRset: an implicit MX carries no prefix (RFC 5321 section 5.1)")
	default:
		if match, _ := prefixed(f); len(match) == 0 {
			d.because(noPrefix(f))
		}
	}
	return true
}

// noPrefix returns the reason for a next hop without a prefix that counts for its port.
func noPrefix(f *Facts) string {
	if f.Nexthop.Host && !prefix.Of(f.Nexthop.Name).Promises(f.Nexthop.Port) {
		return "the name of the host carries no prefix for port " + portText(f.Nexthop.Port)
	}
	return "prefix: no MX host carries one for port " + portText(f.Nexthop.Port)
}

// Cause returns what failed in a lookup, without the question, in printable ASCII.
func Cause(err error) string { return text.Printable(dns.Reason(err)) }
