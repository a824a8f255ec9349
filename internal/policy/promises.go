package policy

import (
	"slices"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/promises"
)

// Remembers reports whether a memory of promises is kept for such a next hop: an MX lookup, an answer that can be
// forged, leads from it to its hosts.
func (n Nexthop) Remembers() bool { return n.Name != "" && !n.Host && n.Port == SMTPPort }

// lookedFor returns those kinds of promises that the settings still look for. The others have not vanished.
func lookedFor(kinds []promises.Kind, o *Options) []promises.Kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k promises.Kind) bool {
		return k == promises.MTASTS && !o.MTASTS || k == promises.DANE && !o.DANE
	})
}

// withdrawn reports whether the absence of promises of some kinds is authentic: DNSSEC protects the MX RRset, or only
// MTA-STS is missing and the domain's own web server serves a policy that is not enforced (RFC 8461 section 8.3).
func withdrawn(f *Facts, kinds []promises.Kind) bool {
	onlySTS := len(kinds) == 1 && kinds[0] == promises.MTASTS
	return f.MX.signed() || onlySTS && f.STS.State == mtasts.Found && f.STS.Policy.Mode != mtasts.Enforce &&
		!f.STS.Stale
}

// Observed returns what a decision shows about the promises of a next hop, and false if it shows nothing: because a
// fact could not be obtained, because the operator decided, or because nothing is remembered for such a next hop.
func Observed(f Facts, o Options, d Decision) (promises.Answer, bool) {
	kinds := lookedFor(f.Promises.Kinds, &o)
	a := promises.Answer{Authentic: withdrawn(&f, kinds)}
	switch {
	case !f.Nexthop.Remembers() || o.Vanished == promises.Off || o.Mode == ModeOff:
		return a, false
	case d.Reason == ReasonHeld:
		a.Held = true
		return a, true
	case d.Verdict == Defer || d.Source() == SourceOverride:
		return a, false
	case d.Source() == SourceDANE && !slices.ContainsFunc(f.Hosts, withTLSA):
		// "dane" because of failed lookups, whose answers may be that there are no TLSA records.
		return a, false
	}
	if match, _ := prefixed(&f); len(match) > 0 {
		a.Kinds = append(a.Kinds, promises.Prefix)
	}
	if stsEnforced(&f, &o) {
		a.Kinds = append(a.Kinds, promises.MTASTS)
	}
	if d.Source() == SourceDANE {
		a.Kinds = append(a.Kinds, promises.DANE)
	}
	if len(a.Kinds) > 0 {
		a.Authentic = f.MX.signed()
	}
	// If nothing was found, perhaps the remembered promise was not looked for: the operator has switched it off, or the
	// resolver does not validate.
	return a, len(a.Kinds) > 0 || len(f.Promises.Kinds) == 0 || len(kinds) > 0 && (a.Authentic || d.Vanished)
}

// withTLSA reports whether a host has secure TLSA records.
func withTLSA(h Host) bool { return h.DANE.State == dane.Usable || h.DANE.State == dane.Unusable }
