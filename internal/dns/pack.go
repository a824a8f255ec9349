package dns

import (
	"encoding/binary"
	"net/netip"
)

// Pack returns the records in one string, as items, which is how a cache stores them; "" for a denial.
func (r *RRset) Pack() string {
	b := make([]byte, 0, 256) // on the stack
	for _, mx := range r.MX() {
		b = AppendItem(b, []byte{byte(mx.Preference >> 8), byte(mx.Preference)}, mx.Host)
	}
	for _, a := range r.Addrs() {
		b = AppendItem(b, nil, a.AsSlice())
	}
	for _, t := range r.TLSA() {
		b = AppendItem(b, []byte{t.Usage, t.Selector, t.MatchingType}, t.Data)
	}
	for _, s := range r.TXT() {
		b = AppendItem(b, nil, s)
	}
	return string(b)
}

// Unpack sets the records to what Pack returned for records of the same type. Their texts share the memory of s.
func (r *RRset) Unpack(s string) {
	switch r.Type {
	case TypeMX:
		r.Records = unpackAll(s, func(p string) MX { return MX{uint16(p[0])<<8 | uint16(p[1]), p[2:]} })
	case TypeA, TypeAAAA:
		r.Records = unpackAll(s, func(p string) netip.Addr {
			a, _ := netip.AddrFromSlice([]byte(p))
			return a
		})
	case TypeTLSA:
		r.Records = unpackAll(s, func(p string) TLSA { return TLSA{p[0], p[1], p[2], []byte(p[3:])} })
	default:
		r.Records = unpackAll(s, func(p string) string { return p })
	}
}

func unpackAll[T any](s string, unpack func(string) T) (list []T) {
	for s != "" {
		item, rest := CutItem(s)
		list = append(list, unpack(item))
		s = rest
	}
	return list
}

// AppendItem appends an item, given in two parts, with its length in front.
func AppendItem[T string | []byte](b, head []byte, tail T) []byte {
	b = binary.AppendUvarint(b, uint64(len(head)+len(tail)))
	return append(append(b, head...), tail...)
}

// CutItem returns the first item of s, and the rest.
func CutItem(s string) (item, rest string) {
	n, rest := CutNumber(s)
	return rest[:n], rest[n:]
}

// CutNumber returns the number that s begins with, as binary.AppendUvarint writes it, and the rest.
func CutNumber(s string) (n uint64, rest string) {
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
	return n, s[size:]
}
