package dns

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// Size estimates what the answer takes in memory, in bytes.
func (r *RRset) Size() int {
	const (
		answer = 80 + 24
		mx     = 24
		addr   = 24
		tlsa   = 32
		text   = 16
	)
	n := answer + len(r.Name) + mx*len(r.MX()) + addr*len(r.Addrs()) + tlsa*len(r.TLSA()) + text*len(r.TXT())
	if r.Owner != r.Name {
		n += len(r.Owner)
	}
	for i := range r.MX() {
		n += len(r.MX()[i].Host)
	}
	for i := range r.TLSA() {
		n += len(r.TLSA()[i].Data)
	}
	for _, s := range r.TXT() {
		n += len(s)
	}
	return n
}

// Data returns the records in the form that zone files use, without owner, TTL and class; none for a denial.
func (r *RRset) Data() (data []string) {
	for _, mx := range r.MX() {
		host := mx.Host
		if host == "" {
			host = "."
		}
		data = append(data, strconv.Itoa(int(mx.Preference))+" "+host)
	}
	for _, a := range r.Addrs() {
		data = append(data, a.String())
	}
	for _, t := range r.TLSA() {
		data = append(data, fmt.Sprintf("%d %d %d %s", t.Usage, t.Selector, t.MatchingType, hex.EncodeToString(t.Data)))
	}
	if r.Type == TypeCNAME || r.Type == TypeNS {
		return append(data, r.TXT()...)
	}
	for _, text := range r.TXT() {
		data = append(data, strconv.QuoteToASCII(text))
	}
	return data
}
