package policy

import "slices"

// Explain returns the sentences of Decide's decision, and after them why each of the mechanisms that did not decide did
// not: what it would have answered alone, or why it has no answer. The facts are those of Survey.
func Explain(f Facts, o Options) []string {
	d, _ := Decide(f, o)
	why := d.Why
	var nothing Decision
	if d.Reason == ReasonOff || len(f.Hosts) == 0 || unknownMX(&f, &o, &nothing) {
		return why
	}
	for _, s := range []Source{SourceDANE, SourcePrefix, SourceMTASTS} {
		if s == d.Source {
			continue
		}
		for _, sentence := range alone(f, o, s) {
			if !slices.Contains(why, sentence) {
				why = append(why, sentence)
			}
		}
	}
	return why
}

// Survey is Decide with a greater need: also what DANE and MTA-STS say about a next hop whose policy does not rest on that.
func Survey(f Facts, o Options) (Decision, Need) {
	d, need := Decide(f, o)
	if !need.Required.Empty() {
		return d, need
	}
	switch {
	case o.Mode == ModeOff || f.Nexthop.Name == "" || f.MX.Err != nil:
	case !f.Nexthop.Host && !f.MX.Asked:
		need.Required.MX = true
	case len(f.Hosts) > 0:
		need.Required.STS = stsApplies(&f, &o) && !f.stsKnown()
		if o.DANE {
			need.Required.DANE = f.withoutDANE()
		}
	}
	return d, need
}

// alone says what one mechanism would have answered, or why it has no answer; nothing if it has no say about such a
// next hop, or has deferred.
func alone(f Facts, o Options, s Source) []string {
	var r func(*Facts, *Options, *Decision) bool
	var off, silent string
	f.Override = Override{}
	switch s {
	case SourceDANE:
		r = byDANE
		if !o.DANE {
			off = "DANE: switched off, dane = false"
		}
	case SourcePrefix:
		r, o.MTASTS = byPrefix, false
		silent = noPrefix(&f)
	case SourceMTASTS:
		r = bySTS
		if !o.MTASTS && !f.Nexthop.Host {
			off = "MTA-STS: switched off, mta_sts = false"
		}
	case SourceNone, SourceOverride:
		return nil
	}
	var d Decision
	switch decided := r(&f, &o, &d); {
	case off != "":
		return []string{off}
	case decided && d.Verdict == Apply:
		return []string{s.String() + " alone would have said: " + d.TLS.text()}
	case decided:
		return nil
	case len(d.Why) == 0 && silent != "":
		return []string{silent}
	}
	return d.Why
}
