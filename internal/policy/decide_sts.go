package policy

import (
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// enforced reports whether the domain has a live MTA-STS policy with mode "enforce".
func enforced(f *Facts, o *Options) bool {
	return stsApplies(f, o) && f.STS.State == mtasts.Found && f.STS.Policy.Mode == mtasts.Enforce
}

// stsFailure returns the reason why the MTA-STS policy is not known.
func stsFailure(r mtasts.Result) string {
	switch {
	case r.Why != "":
		return text.Printable(r.Why)
	case r.Err != nil:
		return Cause(r.Err)
	}
	return "no facts were gathered"
}

// bySTS enforces the domain's MTA-STS policy, RFC 8461 section 5. On the port of implicit TLS only smtps- hosts are
// used, which byPrefix decides about. An unsigned null MX may be forged, and the policy is authentic.
func bySTS(f *Facts, o *Options, d *Decision) bool {
	forgedNull := f.MX.Null && !f.MX.signed()
	if !stsApplies(f, o) || f.Nexthop.Port != SMTPPort || len(f.Hosts) == 0 && !forgedNull {
		return false
	}
	switch {
	case !f.stsKnown():
		return d.lacks(Need{Required: FactSet{STS: true}})
	case f.STS.State == mtasts.Unknown:
		d.defers(ReasonSTSUnknown, "the MTA-STS policy of "+f.Nexthop.Name+" is not known: "+stsFailure(f.STS))
		return true
	case f.STS.State == mtasts.Failed:
		// "senders MUST continue with delivery as though the domain has not implemented MTA-STS" (section 3.3).
		d.because("MTA-STS: the policy could not be obtained, and none is cached: " + stsFailure(f.STS))
		return false
	case f.STS.State == mtasts.Absent:
		d.because("MTA-STS: the domain announces no policy")
		return false
	case f.STS.Policy.Mode != mtasts.Enforce:
		d.because("MTA-STS: the policy has mode " + f.STS.Policy.Mode.String() + ": nothing is enforced")
		return false
	}
	match, broken := stsMatch(f)
	switch {
	case len(match) == 0:
		d.defers(ReasonSTSNoHost, "no MX host of "+f.Nexthop.Name+" is allowed by its MTA-STS policy")
		return true
	case d.undelivered(f, o, match):
		return true
	case broken != "":
		d.secure(SourceMTASTS, ReasonSTSNoHost, match)
		d.because("MTA-STS: the policy is enforced, and it allows no MX host")
	default:
		d.secure(SourceMTASTS, ReasonSTSEnforce, match)
		d.because("MTA-STS: the policy is enforced, id " + f.STS.ID)
	}
	d.TLS.STS = &mtasts.Result{Domain: f.Nexthop.Name, Policy: f.STS.Policy, Failure: broken}
	d.Unsigned = !f.MX.signed()
	if f.STS.Stale {
		d.because("MTA-STS: the cached policy remains valid, although the domain could not confirm it now: " + stsFailure(f.STS))
	}
	return true
}

// stsMatch returns what a certificate must name. Postfix has no pattern for exactly one label, so the MX hosts that the
// policy allows are listed. Where it allows none of them, the patterns of the policy are listed, unless they would let
// in a host that the policy keeps out; the second value then says how the policy fails.
func stsMatch(f *Facts) (match []string, broken mtasts.Failure) {
	for i := range f.Hosts {
		if h := f.Hosts[i].Name; prefix.ValidHost(h) && f.STS.Policy.Matches(h) {
			match = append(match, h)
		}
	}
	if len(match) > 0 {
		slices.Sort(match)
		return match, ""
	}
	for _, pattern := range f.STS.Policy.MX {
		parent, wild := strings.CutPrefix(pattern, "*")
		switch {
		case !wild && prefix.ValidHost(pattern):
			match = append(match, pattern)
		case wild && len(parent) > 1 && prefix.ValidHost(parent[1:]) && !deeper(f, parent):
			match = append(match, parent)
		}
	}
	slices.Sort(match)
	return slices.Compact(match), validationFailure
}

// deeper reports whether Postfix's pattern parent, such as ".example.com", matches an MX host that "*.example.com" of
// MTA-STS does not: the latter stands for exactly one label.
func deeper(f *Facts, parent string) bool {
	return f.MX.Rest > 0 || slices.ContainsFunc(f.Hosts, func(h Host) bool { return strings.HasSuffix(h.Name, parent) })
}

// validationFailure is the result type of RFC 8460 section 4.3.2.2 for a policy that no host meets.
const validationFailure mtasts.Failure = "validation-failure"
