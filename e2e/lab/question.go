package lab

import (
	"fmt"

	"golang.org/x/net/dns/dnsmessage"
)

// DNSQuestion is a record type and a name with the final dot.
type DNSQuestion struct{ Type, Name string }

const typeTLSA = dnsmessage.Type(52)

// types are the record types that the lab asks for.
func types() map[string]dnsmessage.Type {
	return map[string]dnsmessage.Type{
		"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "MX": dnsmessage.TypeMX, "TXT": dnsmessage.TypeTXT,
		"SOA": dnsmessage.TypeSOA, "NS": dnsmessage.TypeNS, "CNAME": dnsmessage.TypeCNAME, "TLSA": typeTLSA,
	}
}

// typeName returns the name of a record type.
func typeName(t dnsmessage.Type) string {
	for name, number := range types() {
		if number == t {
			return name
		}
	}
	return t.String()
}

// plainQuestion is a query message as a client sends it that knows neither EDNS nor DNSSEC.
func plainQuestion(q DNSQuestion) ([]byte, error) {
	t := types()[q.Type]
	if t == 0 {
		return nil, fmt.Errorf("lab: unknown record type %q", q.Type)
	}
	name, err := dnsmessage.NewName(q.Name)
	if err != nil {
		return nil, fmt.Errorf("lab: %q: %w", q.Name, err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x2626, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: t, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}
