package policy

import (
	"slices"

	"github.com/policyd/policyd/prefix"
)

// Explain returns the sentences of Decide's decision, and after them why each of the mechanisms that did not decide
// did not: what it would have said alone, or why it has nothing to say. It is for people who wonder
// why. The facts are those of a Thorough Engine.
func Explain(f Facts, o Options) []string {
	d := Decide(f, o)
	why := d.Why
	var nothing Decision
	if d.Reason == ReasonOff || len(f.Hosts) == 0 || unknownMX(f, o, &nothing) {
		return why // nobody could say more
	}
	for _, s := range []Source{SourceDANE, SourcePrefix, SourceMTASTS} {
		if s == d.Source {
			continue
		}
		for _, text := range alone(f, o, s) {
			if !slices.Contains(why, text) {
				why = append(why, text)
			}
		}
	}
	return why
}

// alone says what one mechanism would have answered, or why it has no answer; nothing if it has no say in such a
// next hop, or has deferred.
func alone(f Facts, o Options, s Source) []string {
	var r rule
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
		silent = noPrefix(f)
	case SourceMTASTS:
		r = bySTS
		if !o.MTASTS && !f.Nexthop.Host {
			off = "MTA-STS: switched off, mta_sts = false"
		}
	case SourceNone, SourceOverride:
		return nil
	}
	var d Decision
	switch decided := r(f, o, &d); {
	case off != "":
		return []string{off}
	case decided && d.Level != LevelNone:
		return []string{s.String() + " alone would have said: " + d.Reply.Text}
	case decided:
		return nil
	case len(d.Why) == 0 && silent != "":
		return []string{silent}
	}
	return d.Why
}

// noPrefix says that no host has a prefix that counts for the port.
func noPrefix(f Facts) string {
	if f.Nexthop.Host && !prefix.Of(f.Nexthop.Name).Promises(f.Nexthop.Port) {
		return "the name of the host carries no prefix for port " + portText(f.Nexthop.Port)
	}
	return "prefix: no MX host carries one for port " + portText(f.Nexthop.Port)
}
