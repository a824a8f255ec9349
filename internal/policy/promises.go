package policy

import (
	"slices"

	"github.com/policyd/policyd/internal/promises"
)

// Remembers reports whether a memory of promises is kept for such a next hop: an MX lookup, an answer that can be
// forged, leads from it to its hosts.
func (n Nexthop) Remembers() bool { return n.Name != "" && !n.Host && n.Port == SMTPPort }

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
	case d.Source() == SourceDANE && !slices.ContainsFunc(f.Hosts, Host.withTLSA):
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
