package policy

import "slices"

// Survey is Decide for operators. It also needs the results of DANE and MTA-STS where the policy does not rest on them.
// After the sentences of the decision, Why has a sentence for each mechanism that did not decide: what it would have
// answered alone, or why it has no answer.
func Survey(f Facts, o Options) Decision {
	d := Decide(f, o)
	if o.Mode == ModeOff {
		return d
	}
	if r := &d.Need.Required; r.Empty() {
		r.MX = !f.Nexthop.Host && !f.Known.MX
		r.STS = len(f.Hosts) > 0 && stsMissing(&f, &o)
		if o.DANE {
			r.DANE = daneUnknown(f.Hosts)
		}
	}
	if len(f.Hosts) == 0 {
		return d
	}
	// ask adds the reasons that the rule of a source gives by itself, or silent if it gives none.
	ask := func(source Source, rule func(*Facts, *Options, *Decision) bool, o Options, silent string) {
		if source == d.Source() {
			return
		}
		var alone Decision
		ends := rule(&f, &o, &alone)
		switch {
		case alone.Verdict == Apply:
			alone.Why = []string{string(source) + " alone would have answered: " + alone.TLS.text()}
		case ends: // it defers
			alone.Why = nil
		case len(alone.Why) == 0 && silent != "":
			alone.Why = []string{silent}
		}
		said := func(sentence string) bool { return slices.Contains(d.Why, sentence) }
		d.because(slices.DeleteFunc(alone.Why, said)...)
	}
	withoutSTS, noSTS := o, ""
	withoutSTS.MTASTS = false
	if !o.MTASTS && !f.Nexthop.Host {
		noSTS = "MTA-STS: switched off, mta_sts = false"
	}
	ask(SourceDANE, byDANE, o, "DANE: switched off, dane = false")
	ask(SourcePrefix, byPrefix, withoutSTS, noPrefix(&f))
	ask(SourceMTASTS, bySTS, o, noSTS)
	return d
}
