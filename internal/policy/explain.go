package policy

import "slices"

// Explain returns the sentences of Decide's decision, and after them why each of the mechanisms that did not decide did
// not: what it would have answered alone, or why it has no answer. The facts are those of Survey.
func Explain(f Facts, o Options) []string {
	d, _ := Decide(f, o)
	why := d.Why
	if d.Reason == ReasonOff || len(f.Hosts) == 0 || unknownMX(&f, &o, &Decision{}) {
		return why
	}
	withoutSTS, noSTS := o, ""
	withoutSTS.MTASTS = false
	if !o.MTASTS && !f.Nexthop.Host {
		noSTS = "MTA-STS: switched off, mta_sts = false"
	}
	for _, m := range []struct {
		source  Source
		applies func(*Facts, *Options, *Decision) bool
		options Options
		silent  string // where the rule gives no reason
	}{
		{SourceDANE, byDANE, o, "DANE: switched off, dane = false"},
		{SourcePrefix, byPrefix, withoutSTS, noPrefix(&f)},
		{SourceMTASTS, bySTS, o, noSTS},
	} {
		if m.source == d.Source() {
			continue
		}
		var alone Decision
		switch decided := m.applies(&f, &m.options, &alone); {
		case decided && alone.Verdict == Apply:
			alone.Why = []string{string(m.source) + " alone would have said: " + alone.TLS.text()}
		case decided: // it defers
			alone.Why = nil
		case len(alone.Why) == 0 && m.silent != "":
			alone.Why = []string{m.silent}
		}
		why = append(why, slices.DeleteFunc(alone.Why,
			func(sentence string) bool { return slices.Contains(why, sentence) })...)
	}
	return why
}

// Survey is Decide with a greater need: also what DANE and MTA-STS say about a next hop whose policy does not rest on
// that.
func Survey(f Facts, o Options) (Decision, Need) {
	d, need := Decide(f, o)
	if !need.Required.Empty() {
		return d, need
	}
	switch {
	case o.Mode == ModeOff || f.Nexthop.Name == "" || f.MX.Err != nil:
	case !f.Nexthop.Host && !f.Known.MX:
		need.Required.MX = true
	case len(f.Hosts) > 0:
		need.Required.STS = stsMissing(&f, &o)
		if o.DANE {
			need.Required.DANE = f.withoutDANE()
		}
	}
	return d, need
}
