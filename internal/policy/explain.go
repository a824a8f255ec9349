package policy

// Explain returns the sentences of Decide's decision, and after them what the mechanisms that were not asked
// would have said: for people who wonder why. The facts are those of a Thorough Engine.
func Explain(f Facts, o Options) []string {
	d := Decide(f, o)
	why := d.Why
	after := map[Source][]Source{
		SourceOverride: {SourceDANE, SourcePrefix, SourceMTASTS},
		SourceDANE:     {SourcePrefix, SourceMTASTS},
		SourcePrefix:   {SourceMTASTS},
	}
	if d.Reason == ReasonDANEFailed {
		after[d.Source] = []Source{SourcePrefix, SourceMTASTS}
	}
	for _, s := range after[d.Source] {
		if text := alone(f, o, s); text != "" {
			why = append(why, text)
		}
	}
	return why
}

// alone says what one mechanism would have answered, "" if nothing.
func alone(f Facts, o Options, s Source) string {
	r := map[Source]rule{SourceDANE: byDANE, SourcePrefix: byPrefix, SourceMTASTS: bySTS}[s]
	f.Override = Override{}
	if s == SourcePrefix {
		o.MTASTS = false
	}
	var d Decision
	if !unknownMX(f, o, &d) && !r(f, o, &d) || d.Level == LevelNone {
		return ""
	}
	return "not asked: " + s.String() + " would have said: " + d.Reply.Text
}
