package policy

import (
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// enforced says whether the domain has a live MTA-STS policy that is to be enforced.
func enforced(f Facts, o Options) bool {
	return o.MTASTS && !f.Nexthop.Host && f.STS.State == mtasts.Found && f.STS.Policy.Mode == mtasts.Enforce
}

// forgedNull reports whether an unsigned null MX contradicts an enforced MTA-STS policy. An attacker who forges the MX
// RRset can publish a null MX, and the policy is authentic.
func forgedNull(f Facts, o Options) bool {
	return f.MX.Null && !f.MX.signed() && enforced(f, o)
}

// stsDoubt says why nothing is known about MTA-STS.
func stsDoubt(r mtasts.Result) string {
	switch {
	case r.Why != "":
		return text.Printable(r.Why)
	case r.Err != nil:
		return reason(r.Err)
	}
	return "no facts were gathered"
}

// bySTS enforces the domain's MTA-STS policy, RFC 8461 section 5. On the port of implicit TLS a domain is
// spoken to by its smtps- hosts only, and those are for byPrefix.
func bySTS(f Facts, o Options, d *Decision) bool {
	if !o.MTASTS || f.Nexthop.Host || f.Nexthop.Port != SMTPPort || len(f.Hosts) == 0 && !forgedNull(f, o) {
		return false
	}
	switch {
	case f.STS.State == mtasts.Unknown:
		d.temp(ReasonSTSUnknown, "the MTA-STS policy of "+f.Nexthop.Name+" is not known: "+stsDoubt(f.STS))
		return true
	case f.STS.State == mtasts.Failed:
		// "senders MUST continue with delivery as though the domain has not implemented MTA-STS", section 3.3.
		d.because("MTA-STS: the policy could not be had, and none is cached: " + stsDoubt(f.STS))
		return false
	case f.STS.State == mtasts.Absent:
		d.because("MTA-STS: the domain announces no policy")
		return false
	case f.STS.Policy.Mode != mtasts.Enforce:
		d.because("MTA-STS: the policy has mode " + f.STS.Policy.Mode.String() + ": nothing is enforced")
		return false
	}
	d.Source, d.Reason = SourceMTASTS, ReasonSTSEnforce
	d.Unsigned = !f.MX.signed()
	match, failure := stsMatch(f)
	if len(match) == 0 {
		d.temp(ReasonSTSNoHost, "no MX host of "+f.Nexthop.Name+" is allowed by its MTA-STS policy")
		return true
	}
	if d.undelivered(f, o, match) {
		return true
	}
	d.Level = LevelSecure
	d.Reply = socketmap.OK("secure match=" + strings.Join(match, ":") + " servername=hostname")
	d.TLSRPT = tlsrpt(f, failure)
	if failure != "" {
		d.Reason = ReasonSTSNoHost
		d.because("MTA-STS: the policy is enforced, and no MX host is allowed by it")
	} else {
		d.because("MTA-STS: the policy is enforced, id " + f.STS.ID)
	}
	if f.STS.Stale {
		d.because("MTA-STS: the policy holds although the domain could not confirm it just now: " + stsDoubt(f.STS))
	}
	return true
}

// stsMatch returns what a certificate must name. Postfix has no pattern for exactly one label, so the MX hosts that
// the policy allows are listed themselves. Where it allows none of them, what stands in the policy is listed,
// as far as that does not let a host in that the policy keeps out; the second value then says how the policy fails.
func stsMatch(f Facts) (match []string, failure mtasts.Failure) {
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

// deeper says whether Postfix's pattern parent, ".example.com", lets an MX host in that "*.example.com" of MTA-STS does
// not: one label and no more.
func deeper(f Facts, parent string) bool {
	if f.MX.Rest > 0 {
		return true
	}
	for i := range f.Hosts {
		if strings.HasSuffix(f.Hosts[i].Name, parent) {
			return true
		}
	}
	return false
}

// validationFailure is the result type of RFC 8460 section 4.3.2.2 for a policy that no host meets.
const validationFailure mtasts.Failure = "validation-failure"

// tlsrpt renders the attributes that Postfix 3.10 and later report with, for a genuine MTA-STS policy only:
// TLSRPT_README, "MTA-STS support via smtp_tls_policy_maps". What Postfix could not read is left out.
func tlsrpt(f Facts, failure mtasts.Failure) string {
	var b strings.Builder
	b.WriteString(" policy_type=sts policy_domain=" + f.Nexthop.Name)
	for _, pattern := range f.STS.Policy.MX {
		if prefix.ValidHost(strings.TrimPrefix(pattern, "*.")) {
			b.WriteString(" mx_host_pattern=" + pattern)
		}
	}
	for _, line := range f.STS.Policy.Raw {
		if !strings.ContainsAny(line, "{}") && text.Printable(line) == line && strings.TrimSpace(line) != "" {
			b.WriteString(" { policy_string = " + line + " }")
		}
	}
	if failure != "" {
		b.WriteString(" policy_failure=" + string(failure))
	}
	const most = 50_000 // half of what a reply may have
	if b.Len() > most {
		return ""
	}
	return b.String()
}
