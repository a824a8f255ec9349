package dns

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
)

// Data returns the records in the form that zone files use, without owner, TTL and class; none for a denial.
func (r *RRset) Data() (data []string) {
	for _, mx := range r.MX() {
		data = append(data, strconv.Itoa(int(mx.Preference))+" "+cmp.Or(mx.Host, "."))
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

// Pack returns the records in one string, as items; "" for a denial. A cache keeps them so.
func (r *RRset) Pack() string {
	var b []byte
	for _, mx := range r.MX() {
		b = AppendItem(b, string(binary.BigEndian.AppendUint16(nil, mx.Preference))+mx.Host)
	}
	for _, a := range r.Addrs() {
		b = AppendItem(b, string(a.AsSlice()))
	}
	for _, t := range r.TLSA() {
		b = AppendItem(b, string([]byte{t.Usage, t.Selector, t.MatchingType})+string(t.Data))
	}
	for _, s := range r.TXT() {
		b = AppendItem(b, s)
	}
	return string(b)
}

// Unpack sets the records to what Pack returned for records of the same type. Their texts share the memory of s.
func (r *RRset) Unpack(s string) {
	switch r.Type {
	case TypeMX:
		r.Records = each(s, func(p string) MX { return MX{uint16(p[0])<<8 | uint16(p[1]), p[2:]} })
	case TypeA, TypeAAAA:
		r.Records = each(s, func(p string) netip.Addr {
			a, _ := netip.AddrFromSlice([]byte(p))
			return a
		})
	case TypeTLSA:
		r.Records = each(s, func(p string) TLSA { return TLSA{p[0], p[1], p[2], []byte(p[3:])} })
	default:
		r.Records = each(s, func(p string) string { return p })
	}
}

func each[T any](s string, unpack func(string) T) (list []T) {
	for item := ""; s != ""; {
		item, s = CutItem(s)
		list = append(list, unpack(item))
	}
	return list
}

// AppendItem appends a text with its length.
func AppendItem(b []byte, item string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(item))), item...)
}

// CutItem returns the first item of s, and the rest.
func CutItem(s string) (item, rest string) {
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
	return s[size : size+int(n)], s[size+int(n):]
}
