package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/prefix"
)

// MayHaveHistory reports whether promises are recorded for a next hop of this kind. They are recorded for port 25, and
// only where an MX lookup, which can be forged, leads to the hosts.
func (n Nexthop) MayHaveHistory() bool { return n.Name != "" && !n.Host && n.Port == prefix.SMTPPort }

// byVanishedPromise detects a promise that has vanished from an unsigned answer, and holds the mail if the settings
// require it. It comes after all rules that look for a promise.
//
// Where the resolver does not validate, every answer is unsigned and DANE is missing everywhere. That is a fault of the
// resolver, which package stub logs, and proves nothing about the domains. A hold in progress continues, so that an
// attacker who can make policyd distrust the resolver cannot end it.
func byVanishedPromise(f *Facts, o *Options, d *Decision) bool {
	history, kinds := f.History, lookedFor(f, o)
	if o.OnVanished == promises.Off || len(kinds) == 0 || len(f.Prefixed()) > 0 || withdrawn(f, kinds) {
		return undecided
	}
	resolverMatters := slices.Contains(kinds, promises.DANE) && history.Until.IsZero()
	if resolverMatters && !f.Known.Validates {
		return d.lacks(Need{Required: FactSet{Validates: true}})
	}
	if resolverMatters && !f.Validates {
		kinds = slices.DeleteFunc(kinds, func(k promises.Kind) bool { return k == promises.DANE })
		d.because("the domain had DANE; whether it still has is unknown, because the resolver does not validate now")
		if len(kinds) == 0 || withdrawn(f, kinds) {
			return undecided
		}
	}
	since := fmt.Sprintf(
		"the domain promised authenticated TLS (%s) on %d days, last on %s, and the promise is missing from "+
			"an unsigned answer", kinds[0], history.Days, history.Last.Time().Format(time.DateOnly))
	if o.OnVanished == promises.Hold && history.Holdable {
		d.defers(ReasonHeld, f.Nexthop.Name+" is held: "+since)
		d.Vanished = true
		return decided
	}
	d.because(since)
	d.Vanished = true
	return undecided
}

// lookedFor returns those remembered kinds of promises that the settings still look for in such an answer. The others
// have not vanished.
func lookedFor(f *Facts, o *Options) []promises.Kind {
	return slices.DeleteFunc(slices.Clone(f.History.Kinds), func(k promises.Kind) bool {
		return k == promises.MTASTS && !o.MTASTS || k == promises.DANE && !o.DANE ||
			k == promises.Prefix && o.IgnoreUnsigned && !f.authentic()
	})
}

// withdrawn reports whether the absence of promises of some kinds is authentic: DNSSEC protects the MX RRset, or only
// MTA-STS is missing and the domain's own web server serves a policy that is not enforced (RFC 8461 section 8.3).
func withdrawn(f *Facts, kinds []promises.Kind) bool {
	onlySTS := len(kinds) == 1 && kinds[0] == promises.MTASTS
	ended := f.STS.State == mtasts.Found && f.STS.Policy.Mode != mtasts.Enforce && !f.STS.Stale
	return f.MX.signed() || onlySTS && ended
}

// Observed returns what a decision shows about the promises of a next hop, and false if it shows nothing: because a
// fact could not be obtained, because the operator decided, or because nothing is remembered for such a next hop.
func Observed(f Facts, o Options, d Decision) (promises.Answer, bool) {
	kinds, source := lookedFor(&f, &o), d.Source()
	a := promises.Answer{Authentic: withdrawn(&f, kinds)}
	switch {
	case !f.Nexthop.MayHaveHistory() || o.OnVanished == promises.Off || o.Mode == ModeOff:
		return a, false
	case d.Reason == ReasonHeld:
		a.Held = true
		return a, true
	case d.Verdict == Defer, source == SourceOverride,
		source == SourceDANE && !slices.ContainsFunc(f.Hosts, Host.withTLSA):
		// "dane" can also result from failed lookups of hosts that have no TLSA records.
		return a, false
	}
	if prefixCounts(&f, &o) {
		a.Kinds = append(a.Kinds, promises.Prefix)
	}
	if stsEnforced(&f, &o) {
		a.Kinds = append(a.Kinds, promises.MTASTS)
	}
	if source == SourceDANE {
		a.Kinds = append(a.Kinds, promises.DANE)
	}
	if len(a.Kinds) > 0 {
		a.Authentic = f.MX.signed()
	}
	// If nothing was found, perhaps the remembered promise was not looked for: the operator has switched it off, or the
	// resolver does not validate.
	return a, len(a.Kinds) > 0 || len(f.History.Kinds) == 0 || len(kinds) > 0 && (a.Authentic || d.Vanished)
}
