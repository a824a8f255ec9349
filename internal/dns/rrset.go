package dns

import (
	"cmp"
	"fmt"
)

// Data returns the records in the form that zone files use, without owner, TTL and class; none for a denial.
func (r *RRset) Data() (data []string) {
	for _, mx := range r.MX() {
		data = append(data, fmt.Sprintf("%d %s", mx.Preference, cmp.Or(mx.Host, ".")))
	}
	for _, a := range r.Addrs() {
		data = append(data, a.String())
	}
	for _, t := range r.TLSA() {
		data = append(data, fmt.Sprintf("%d %d %d %x", t.Usage, t.Selector, t.MatchingType, t.Data))
	}
	if r.Type == TypeCNAME || r.Type == TypeNS {
		return append(data, r.TXT()...)
	}
	for _, text := range r.TXT() {
		data = append(data, fmt.Sprintf("%+q", text))
	}
	return data
}
