package policy

import (
	"slices"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// A rule looks at the facts and, if it applies, fills in the decision and returns
// true. One that does not apply may say why not.
type rule func(f Facts, o Options, d *Decision) bool

// rules are all there are, in the order in which they are asked: the first that applies decides.
func rules() [8]rule {
	return [...]rule{switchedOff, override, unknownMX, byOwnRelay, byDANE, byPrefix, bySTS, noPolicy}
}

// Decide answers what the TLS policy for f.Nexthop is. The rules are asked in order and the first
// that applies decides; none applies: NOTFOUND.
func Decide(f Facts, o Options) Decision {
	var d Decision
	for _, r := range rules() {
		if r(f, o, &d) {
			break
		}
	}
	d.Would = d.Reply
	if o.Mode == ModeReport && d.Reply.Status != socketmap.StatusNotFound {
		d.Reply = socketmap.NotFound()
		d.because(`mode = "report": Postfix gets NOTFOUND in place of this`)
	}
	return d
}

func switchedOff(_ Facts, o Options, d *Decision) bool {
	if o.Mode != ModeOff {
		return false
	}
	d.none(ReasonOff)
	d.because(`mode = "off": everything is answered NOTFOUND`)
	return true
}

// override obeys the operator before anything else.
func override(f Facts, _ Options, d *Decision) bool {
	switch f.Override.Action {
	case ActionIgnore:
		d.none(ReasonOverride)
	case ActionLiteral:
		d.Reply, d.Reason = socketmap.OK(f.Override.Policy), ReasonOverride
	default:
		return false
	}
	d.Source = SourceOverride
	d.because("the overrides file has a line for " + f.Override.Pattern)
	return true
}

// unknownMX defers when the MX RRset could not be had: a bogus or withheld answer must not
// hide a promise (RFC 4035 section 5.5, RFC 7672 section 2.1.2).
func unknownMX(f Facts, _ Options, d *Decision) bool {
	if f.Nexthop.Name != "" && (f.Nexthop.Host || f.MX.Asked && f.MX.Err == nil) {
		return false
	}
	text := "no facts were gathered"
	if f.MX.Err != nil {
		text = "MX lookup for " + f.Nexthop.Name + " failed: " + reason(f.MX.Err)
	}
	d.temp(ReasonMXFailed, text)
	return true
}

// byPrefix honours the promise in the names of the MX hosts.
func byPrefix(f Facts, o Options, d *Decision) bool {
	if f.Nexthop.Host {
		return prefixedHost(f, o, d)
	}
	match, mixed := prefixed(f)
	if len(match) == 0 {
		return false
	}
	if why := dishonoured(f, mixed, o); why != "" {
		d.because(why)
		return false
	}
	allowed, narrowed := match, false
	if o.MTASTS {
		switch {
		case f.STS.State == mtasts.Unknown:
			d.temp(ReasonSTSUnknown, "the MTA-STS policy of "+f.Nexthop.Name+" is not known: "+stsDoubt(f.STS))
			return true
		case enforced(f, o):
			allowed = slices.DeleteFunc(slices.Clone(match), func(host string) bool { return !f.STS.Policy.Matches(host) })
			narrowed = len(allowed) < len(match)
		}
	}
	if len(allowed) == 0 {
		// RFC 8461 section 5: a host that the policy does not name must not get the mail.
		d.Conflict = true
		d.because("conflict: the MTA-STS policy allows none of the prefixed hosts, so it alone decides")
		if f.Nexthop.Port != SMTPPort {
			d.temp(ReasonSTSConflict, "the MTA-STS policy of "+f.Nexthop.Name+" allows none of its smtps- hosts")
			return true
		}
		return false
	}
	if d.undelivered(f, o, allowed) {
		return true
	}
	d.secure(SourcePrefix, allowed)
	d.Reason = ReasonPrefixAll
	if mixed {
		d.Reason = ReasonPrefixMixed
		d.because("some MX hosts carry a prefix: mail goes through those only")
	} else {
		d.because("every MX host carries a prefix")
	}
	if narrowed {
		d.because("of these, the MTA-STS policy allows those in match= only")
	}
	d.unsigned(f)
	return true
}

// unsigned notes a promise that DNSSEC does not protect.
func (d *Decision) unsigned(f Facts) {
	if d.Unsigned = !f.MX.signed(); d.Unsigned {
		d.because("the MX RRset is not signed: who can forge DNS can hide the promise")
	}
}

// dishonoured says why the settings have the prefixes of a domain count for nothing, "" if they do count.
func dishonoured(f Facts, mixed bool, o Options) string {
	switch {
	case !f.MX.signed() && o.UnsignedMX == Ignore:
		return `prefix: the MX RRset is not signed, and unsigned_mx = "ignore"`
	case mixed && o.MixedMX == Ignore:
		return `prefix: not every MX host carries one, and mixed_mx = "ignore"`
	}
	return ""
}

// prefixed returns the names of the hosts that promise a valid certificate on the port of
// the next hop, and whether the set has a host without any prefix.
func prefixed(f Facts) (match []string, mixed bool) {
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

// prefixedHost honours the promise of a host that is named as the next hop itself: no MX RRset that
// could be forged leads to it.
func prefixedHost(f Facts, o Options, d *Decision) bool {
	n := f.Nexthop
	if !prefix.Of(n.Name).Promises(n.Port) {
		return false
	}
	if d.undelivered(f, o, []string{n.Name}) {
		return true
	}
	d.secure(SourcePrefix, []string{n.Name})
	d.Reason = ReasonPrefixAll
	d.because("the next hop is a host whose name carries a prefix")
	return true
}

// noPolicy says for people what there is instead of a promise.
func noPolicy(f Facts, _ Options, d *Decision) bool {
	d.none(ReasonNone)
	switch {
	case f.Nexthop.Host:
		d.because(noPrefix(f))
	case f.MX.NXDomain:
		d.because("the domain does not exist")
	case f.MX.Null:
		d.because("null MX: the domain takes no mail (RFC 7505)")
	case f.MX.Implicit:
		d.because("no MX RRset: an implicit MX carries no prefix (RFC 5321 section 5.1)")
	default:
		if match, _ := prefixed(f); len(match) == 0 {
			d.because(noPrefix(f))
		}
	}
	return true
}
