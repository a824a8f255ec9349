package policy

import (
	"cmp"
	"slices"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
)

// Prefixed returns the names of the hosts that promise a valid certificate on the port of the next hop, sorted.
func (f *Facts) Prefixed() (match []string) {
	for i := range f.Hosts {
		if h := &f.Hosts[i]; h.Class != prefix.None && h.Class.Promises(f.Nexthop.Port) { // None is the usual case
			match = append(match, h.Name)
		}
	}
	slices.Sort(match)
	return match
}

// Mixed reports whether there is a host without any prefix.
func (f *Facts) Mixed() bool {
	return f.MX.Rest > 0 || slices.ContainsFunc(f.Hosts, func(h Host) bool { return h.Class == prefix.None })
}

// whyPrefixIgnored returns why the settings ignore the prefixes of the domain, or "" if they count.
func whyPrefixIgnored(f *Facts, o *Options) string {
	switch {
	case !f.authentic() && o.IgnoreUnsigned:
		return `prefix: the MX RRset is not signed, and unsigned_mx = "ignore"`
	case o.IgnoreMixed && f.Mixed():
		return `prefix: not every MX host carries one, and mixed_mx = "ignore"`
	}
	return ""
}

// prefixCounts reports whether a host promises a valid certificate, and the settings do not ignore that.
func prefixCounts(f *Facts, o *Options) bool {
	return len(f.Prefixed()) > 0 && whyPrefixIgnored(f, o) == ""
}

// noPrefix returns the reason for a next hop without a prefix that counts for its port.
func noPrefix(f *Facts) string {
	return "prefix: no MX host carries one for port " + portText(f.Nexthop.Port)
}

// authentic reports whether the host names are authentic: DNSSEC protects the MX RRset, or the next hop is the host.
func (f *Facts) authentic() bool { return f.Nexthop.Host || f.MX.signed() }

// stsMissing reports whether the MTA-STS policy has not been looked for yet.
func stsMissing(f *Facts, o *Options) bool { return stsUnknown(f, o) && !f.Known.STS }

// stsUnknown reports whether the MTA-STS policy is not known: it has not been looked for, or could not be obtained. It
// is the policy of a domain, never that of an MX host (RFC 8461 section 3.4).
func stsUnknown(f *Facts, o *Options) bool {
	return o.MTASTS && !f.Nexthop.Host && f.STS.State == mtasts.Unknown
}

// stsEnforced reports whether the domain has a live MTA-STS policy with mode "enforce".
func stsEnforced(f *Facts, o *Options) bool {
	return o.MTASTS && !f.Nexthop.Host && f.STS.State == mtasts.Found && f.STS.Policy.Mode == mtasts.Enforce
}

// stsFailure returns the reason why the MTA-STS policy is not known.
func stsFailure(r mtasts.Result) string {
	if r.Why == "" && r.Err != nil {
		return Cause(r.Err)
	}
	return text.Printable(cmp.Or(r.Why, "no answer"))
}

// promise reports whether a prefix counts for the next hop, or the domain has an enforced MTA-STS policy, or one that
// could not be obtained. missing is set when that depends on the policy and the policy has not been looked for.
func promise(f *Facts, o *Options) (made, missing bool) {
	made = prefixCounts(f, o)
	if made || f.Nexthop.Port != prefix.SMTPPort {
		return made, false
	}
	missing = stsMissing(f, o)
	return !missing && (stsEnforced(f, o) || stsUnknown(f, o)), missing
}

// countDANE counts the hosts by their DANE state, and returns what failed, "" if nothing did. On the port of implicit
// TLS only smtps- hosts count, where there are any: Postfix must not connect to the others.
func countDANE(f *Facts, count map[dane.State]int) (failed string) {
	prefixedOnly := f.Nexthop.Port != prefix.SMTPPort && len(f.Prefixed()) > 0
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
	return failed
}

// failure returns the failure of a host.
func failure(f *Facts, h *Host) string {
	what := "DANE lookup for port " + portText(f.Nexthop.Port) + " of " + text.Name(h.Name) + " failed"
	if h.DANE.Err != nil {
		what += ": " + Cause(h.DANE.Err)
	}
	return text.Printable(cmp.Or(h.DANE.Why, what))
}

// Cause returns what failed in a lookup, without the question, in printable ASCII.
func Cause(err error) string { return text.Printable(dns.Reason(err)) }

// withTLSA reports whether the host has secure TLSA records.
func (h Host) withTLSA() bool { return h.DANE.State == dane.Usable || h.DANE.State == dane.Unusable }
