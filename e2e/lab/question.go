package lab

import (
	"fmt"

	"golang.org/x/net/dns/dnsmessage"
)

// DNSQuestion is a record type and a name with the final dot.
type DNSQuestion struct{ Type, Name string }

const typeTLSA = dnsmessage.Type(52)

// typeNumber returns the number of a record type.
func typeNumber(name string) (dnsmessage.Type, error) {
	types := map[string]dnsmessage.Type{
		"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "MX": dnsmessage.TypeMX, "TXT": dnsmessage.TypeTXT,
		"SOA": dnsmessage.TypeSOA, "NS": dnsmessage.TypeNS, "CNAME": dnsmessage.TypeCNAME, "TLSA": typeTLSA,
	}
	if t := types[name]; t != 0 {
		return t, nil
	}
	return 0, fmt.Errorf("lab: unknown record type %q", name)
}

// plainQuestion is a query message as a client sends it that knows neither EDNS nor DNSSEC.
func plainQuestion(q DNSQuestion) ([]byte, error) {
	t, err := typeNumber(q.Type)
	if err != nil {
		return nil, err
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
