package policy

import (
	"cmp"

	"github.com/policyd/policyd/internal/mtasts"
)

// Verdict is the kind of a Decision.
type Verdict string

// The verdicts. The zero Verdict is Defer, so that mail waits where no rule has decided.
const (
	Defer Verdict = ""      // mail waits, because a fact that the decision depends on could not be obtained
	None  Verdict = "none"  // there is no policy, or no route
	Apply Verdict = "apply" // the policy or the route of the Decision applies
)

// Level is a TLS security level, as in postconf(5), smtp_tls_security_level.
type Level string

// The levels that policyd answers with. LevelLiteral stands for the policy of an override, whatever its level.
const (
	LevelDANE     Level = "dane"
	LevelSecure   Level = "secure"
	LevelDANEOnly Level = "dane-only"
	LevelLiteral  Level = "literal"
)

// Source is the mechanism that decided.
type Source string

// The sources of a decision.
const (
	SourceNone     Source = "none"
	SourceOverride Source = "override"
	SourceDANE     Source = "dane"
	SourcePrefix   Source = "prefix"
	SourceMTASTS   Source = "mta-sts"
)

// TLSPolicy is a policy of smtp_tls_policy_maps.
type TLSPolicy struct {
	Level Level
	// Match lists names for LevelSecure; the certificate must have one of them. They are host names in lower case, or a
	// domain with a dot in front, which stands for all names below it. They are sorted.
	Match   []string
	Literal string // the text of LevelLiteral
	// STS is the MTA-STS policy that Postfix 3.10 and later report on, or nil. Its Failure is how the policy fails,
	// "" if it does not.
	STS *mtasts.Result
}

// Decision is what Postfix gets, and why. The zero Decision defers.
type Decision struct {
	Verdict  Verdict
	TLS      TLSPolicy // the policy that applies, set by Decide
	Route    []Nexthop // set by Route: the next hops to try, in order, on the port of implicit TLS
	Failure  string    // the reason for Defer: the fact that could not be obtained
	Reason   Reason    // a word that distinguishes decisions in metrics
	Unsigned bool      // the policy rests on an MX RRset that DNSSEC does not protect
	// InFront is the number of addresses before the first MX host that the policy allows; 0 unless they are so many
	// that Postfix, with the default smtp_mx_address_limit, never tries that host.
	InFront  int
	Vanished bool     // an earlier promise of authenticated TLS is missing from an unsigned answer
	Why      []string // explains the decision in sentences
	Need     Need     // the facts that are missing; while any of them is required, the Decision does not count
}

// Source returns the mechanism that decided.
func (d *Decision) Source() Source {
	if d.Verdict == Defer {
		return SourceNone
	}
	switch d.Reason {
	case ReasonOverride:
		return SourceOverride
	case ReasonDANEFull, ReasonDANEInsecureMX, ReasonDANEUnusable, ReasonDANEPartial:
		return SourceDANE
	case ReasonPrefixAll, ReasonPrefixMixed, ReasonRouteDomain, ReasonRouteHosts:
		return SourcePrefix
	case ReasonSTSEnforce, ReasonSTSNoHost:
		return SourceMTASTS
	default:
		return SourceNone
	}
}

// Class returns the level, or "none" or "temp" where there is no policy or no decision.
func (d *Decision) Class() string {
	if d.Verdict == Apply {
		return string(d.TLS.Level)
	}
	return cmp.Or(string(d.Verdict), "temp")
}

// What a rule returns. Each method below records an outcome and returns whether it ends the list of rules, so that a
// rule can return its result.
const (
	decided   = true  // the decision is complete, or a fact is missing
	undecided = false // the next rule is tried
)

// because adds sentences to Why. It decides nothing.
func (d *Decision) because(why ...string) bool {
	d.Why = append(d.Why, why...)
	return undecided
}

// none answers that there is no policy.
func (d *Decision) none(r Reason, why ...string) bool {
	d.Verdict, d.Reason = None, r
	d.because(why...)
	return decided
}

// defers answers that mail must wait. It replaces any earlier outcome, and keeps the sentences.
func (d *Decision) defers(r Reason, failure string) bool {
	*d = Decision{Reason: r, Failure: failure, Why: append(d.Why, failure)}
	return decided
}

// lacks records missing facts that a rule depends on. Until they are known, the rest of the decision does not count.
func (d *Decision) lacks(n Need) bool {
	d.defers("", "internal error: a required fact is missing")
	d.Need = n
	return decided
}

// apply answers with a TLS policy.
func (d *Decision) apply(r Reason, p TLSPolicy, why ...string) bool {
	d.Verdict, d.Reason, d.TLS = Apply, r, p
	d.because(why...)
	return decided
}

// Reason is the reason for a decision in one word. Metrics have a time series for every value.
type Reason string

// The reasons. The zero Reason belongs to the zero Decision.
const (
	ReasonOff            Reason = "off"
	ReasonOverride       Reason = "override"
	ReasonMXFailed       Reason = "mx-failed"
	ReasonDANEFailed     Reason = "dane-failed"
	ReasonDANEFull       Reason = "dane-full"
	ReasonDANEInsecureMX Reason = "dane-insecure-mx"
	ReasonDANEUnusable   Reason = "dane-unusable"
	ReasonDANEPartial    Reason = "dane-partial"
	ReasonPrefixAll      Reason = "prefix-all"
	ReasonPrefixMixed    Reason = "prefix-mixed"
	ReasonSTSEnforce     Reason = "sts-enforce"
	ReasonSTSNoHost      Reason = "sts-no-host"
	ReasonSTSConflict    Reason = "sts-conflict"
	ReasonSTSUnknown     Reason = "sts-unknown"
	ReasonOwnRelay       Reason = "own-relay"
	ReasonHeld           Reason = "promise-held"
	ReasonNone           Reason = "none"
	// Of routes.
	ReasonRouteDomain Reason = "route-domain"
	ReasonRouteHosts  Reason = "route-hosts"
	ReasonNoRoute     Reason = "no-route"
	ReasonReceiver    Reason = "receiver"
)
