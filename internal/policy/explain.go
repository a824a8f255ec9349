package policy

import "slices"

// Explain returns the sentences of Decide's decision, and after them why each of the mechanisms that did not decide did
// not: what it would have answered alone, or why it has no answer. The facts are those of Survey.
func Explain(f Facts, o Options) []string {
	d := Decide(f, o)
	why := d.Why
	if d.Reason == ReasonOff || len(f.Hosts) == 0 {
		return why
	}
	// ask adds what a rule says, or silent if it gives no reason.
	ask := func(m Source, rule func(*Facts, *Options, *Decision) bool, o Options, silent string) {
		if m == d.Source() {
			return
		}
		var alone Decision
		switch decided := rule(&f, &o, &alone); {
		case decided && alone.Verdict == Apply:
			alone.Why = []string{string(m) + " alone would have said: " + alone.TLS.text()}
		case decided: // it defers
			alone.Why = nil
		case len(alone.Why) == 0 && silent != "":
			alone.Why = []string{silent}
		}
		said := func(sentence string) bool { return slices.Contains(why, sentence) }
		why = append(why, slices.DeleteFunc(alone.Why, said)...)
	}
	withoutSTS, noSTS := o, ""
	withoutSTS.MTASTS = false
	if !o.MTASTS && !f.Nexthop.Host {
		noSTS = "MTA-STS: switched off, mta_sts = false"
	}
	ask(SourceDANE, byDANE, o, "DANE: switched off, dane = false")
	ask(SourcePrefix, byPrefix, withoutSTS, noPrefix(&f))
	ask(SourceMTASTS, bySTS, o, noSTS)
	return why
}

// Survey is Decide with a greater need: also what DANE and MTA-STS say where the policy does not rest on them.
func Survey(f Facts, o Options) Decision {
	d := Decide(f, o)
	if r := &d.Need.Required; r.Empty() && o.Mode != ModeOff {
		r.MX = !f.Nexthop.Host && !f.Known.MX
		r.STS = len(f.Hosts) > 0 && stsMissing(&f, &o)
		if o.DANE {
			r.DANE = f.withoutDANE()
		}
	}
	return d
}
