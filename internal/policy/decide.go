package policy

import (
	"slices"

	"github.com/policyd/policyd/internal/resolver"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// A rule looks at the facts and, if it applies, fills in the decision and returns
// true. One that does not apply may say why not.
type rule func(f Facts, o Options, d *Decision) bool

// Decide answers what the TLS policy for f.Nexthop is. The rules are asked in the order
// below and the first that applies decides; none applies: NOTFOUND.
func Decide(f Facts, o Options) Decision {
	var d Decision
	for _, r := range [...]rule{switchedOff, override, unknownMX, prefixed, noPolicy} {
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
	d.Reply = socketmap.NotFound()
	d.because(`mode = "off": everything is answered NOTFOUND`)
	return true
}

// override obeys the operator before anything else.
func override(f Facts, _ Options, d *Decision) bool {
	switch f.Override.Action {
	case ActionIgnore:
		d.Reply = socketmap.NotFound()
	case ActionLiteral:
		d.Reply = socketmap.OK(f.Override.Policy)
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
	d.Reply = socketmap.Temp(text)
	d.because(text)
	return true
}

// prefixed honours the promise in the names of the MX hosts.
func prefixed(f Facts, o Options, d *Decision) bool {
	if f.Nexthop.Host {
		return prefixedHost(f.Nexthop, d)
	}
	match, mixed := promised(f)
	switch {
	case len(match) == 0:
		return false
	case f.MX.Status != resolver.Secure && o.UnsignedMX == Ignore:
		d.because(`the MX RRset is not signed, and unsigned_mx = "ignore"`)
		return false
	case mixed && o.MixedMX == Ignore:
		d.because(`not every MX host carries a prefix, and mixed_mx = "ignore"`)
		return false
	}
	d.secure(SourcePrefix, match)
	d.Unsigned = f.MX.Status != resolver.Secure
	if mixed {
		d.because("some MX hosts carry a prefix: mail goes through those only")
	} else {
		d.because("every MX host carries a prefix")
	}
	if d.Unsigned {
		d.because("the MX RRset is not signed: who can forge DNS can hide the promise")
	}
	return true
}

// promised returns the names of the hosts that promise a valid certificate on the port of
// the next hop, and whether the set has a host without any prefix.
func promised(f Facts) (match []string, mixed bool) {
	mixed = f.MX.Rest > 0
	for _, h := range f.Hosts {
		switch {
		case h.Class == prefix.None:
			mixed = true
		case promises(h.Class, f.Nexthop.Port):
			match = append(match, h.Name)
		}
	}
	slices.Sort(match)
	return match, mixed
}

// promises says whether a class holds on a port: both prefixes promise STARTTLS on port
// 25, only smtps- promises implicit TLS.
func promises(c prefix.Class, port uint16) bool {
	return c == prefix.SMTPS || c == prefix.STARTTLS && port == SMTPPort
}

// prefixedHost honours the promise of a host that is named as the next hop itself. No DNS is
// involved, so none can be forged.
func prefixedHost(n Nexthop, d *Decision) bool {
	if !promises(prefix.Of(n.Name), n.Port) {
		return false
	}
	d.secure(SourcePrefix, []string{n.Name})
	d.because("the next hop is a host whose name carries a prefix")
	return true
}

// noPolicy says for people what there is instead of a promise.
func noPolicy(f Facts, _ Options, d *Decision) bool {
	d.Reply = socketmap.NotFound()
	switch {
	case f.Nexthop.Host:
		d.because("the name of the host carries no prefix for port " + portText(f.Nexthop.Port))
	case f.MX.NXDomain:
		d.because("the domain does not exist")
	case f.MX.Null:
		d.because("null MX: the domain takes no mail (RFC 7505)")
	case len(f.Hosts) == 0:
		d.because("no MX RRset: an implicit MX carries no promise (RFC 5321 section 5.1)")
	case len(d.Why) == 0:
		d.because("no MX host carries a prefix for port " + portText(f.Nexthop.Port))
	}
	return true
}
