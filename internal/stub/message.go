package stub

import (
	"encoding/binary"
	"errors"
	"strconv"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// errMalformed is returned for a message that does not follow RFC 1035 section 4.
var errMalformed = errors.New("malformed answer")

// newQuery makes the query of a security-aware stub, the same that Postfix sends: RD, AD and DO set (RFC 6840 section 5.7,
// RFC 3225 section 3), CD clear, and room for 1,232 octets. Some forwarders cache an answer together with the bits of the
// query, so two clients that ask differently can see a different AD bit.
func newQuery(name string, qtype, class uint16) *miekg.Msg {
	const payload = 1232
	m := new(miekg.Msg)
	m.SetQuestion(name, qtype)
	m.Question[0].Qclass = class
	m.AuthenticatedData = true
	m.SetEdns0(payload, true)
	return m
}

// parse reads the header, the question and the records that policyd uses. If the header and the question can be read but
// something else cannot, it returns both with errMalformed. A message that ends before its last record is malformed,
// although the library would accept it as one with fewer records.
func parse(octets []byte) (m *miekg.Msg, err error) {
	defer func() {
		if recover() != nil { // malformed messages have made the library panic
			err = errMalformed
		}
	}()
	const header = 12
	if len(octets) < header {
		return nil, errMalformed
	}
	field := func(i int) int { return int(binary.BigEndian.Uint16(octets[2*i:])) }
	bits := field(1)
	m = &miekg.Msg{MsgHdr: miekg.MsgHdr{
		Id: uint16(field(0)), Response: bits&(1<<15) != 0, Opcode: bits >> 11 & 0xf, Truncated: bits&(1<<9) != 0,
		AuthenticatedData: bits&(1<<5) != 0, Rcode: bits & 0xf,
	}}
	off := header
	for range field(2) {
		var q miekg.Question
		if q.Name, off, err = miekg.UnpackDomainName(octets, off); err != nil || off+4 > len(octets) {
			return m, errMalformed
		}
		q.Qtype, q.Qclass = binary.BigEndian.Uint16(octets[off:]), binary.BigEndian.Uint16(octets[off+2:])
		m.Question, off = append(m.Question, q), off+4
	}
	sections := []struct {
		to   *[]miekg.RR
		uses func(rrtype uint16) bool
	}{
		{&m.Answer, func(uint16) bool { return true }},
		{&m.Ns, func(t uint16) bool { return t == miekg.TypeSOA || t == miekg.TypeNS }},
		{&m.Extra, func(t uint16) bool { return t == miekg.TypeOPT }},
	}
	for i, section := range sections {
		for range field(3 + i) {
			var rr miekg.RR
			if rr, off, err = parseRecord(octets, off, section.uses); err != nil {
				return m, errMalformed
			}
			if rr != nil {
				*section.to = append(*section.to, rr)
			}
			if opt, ok := rr.(*miekg.OPT); ok {
				m.Rcode |= opt.ExtendedRcode()
			}
		}
	}
	return m, nil
}

// parseRecord reads the record at off and returns the offset of the next one. The record is nil if its type is of no
// use. Of a signature only the type covered and the expiration are read.
func parseRecord(octets []byte, off int, uses func(uint16) bool) (rr miekg.RR, next int, err error) {
	const fixed = 10 // type, class, TTL and length
	name, off, err := miekg.UnpackDomainName(octets, off)
	if err != nil || off+fixed > len(octets) {
		return nil, 0, errMalformed
	}
	h := miekg.RR_Header{
		Name: name, Rrtype: binary.BigEndian.Uint16(octets[off:]), Class: binary.BigEndian.Uint16(octets[off+2:]),
		Ttl: binary.BigEndian.Uint32(octets[off+4:]), Rdlength: binary.BigEndian.Uint16(octets[off+8:]),
	}
	off += fixed
	if next = off + int(h.Rdlength); next > len(octets) {
		return nil, 0, errMalformed
	}
	const untilExpiration = 12
	switch {
	case !uses(h.Rrtype):
		return nil, next, nil
	case h.Rrtype == miekg.TypeRRSIG:
		if h.Rdlength < untilExpiration {
			return nil, 0, errMalformed
		}
		return &miekg.RRSIG{
			Hdr: h, TypeCovered: binary.BigEndian.Uint16(octets[off:]), Expiration: binary.BigEndian.Uint32(octets[off+8:]),
		}, next, nil
	}
	return miekg.UnpackRRWithHeader(h, octets[:next], off) // some types are read to the end of the slice
}

// fit is how well a message fits as the answer to a query.
type fit uint8

const (
	stray fit = iota // not an answer to this query
	bare             // an error without a question section, from a server that does not know EDNS for example
	fits
)

// fitOf compares ID, QR, opcode, name, class and type (RFC 5452 section 9.1).
func fitOf(answer, query *miekg.Msg) fit {
	if answer == nil || answer.Id != query.Id || !answer.Response || answer.Opcode != query.Opcode {
		return stray
	}
	if len(answer.Question) == 0 && answer.Rcode != miekg.RcodeSuccess && answer.Rcode != miekg.RcodeNameError {
		return bare
	}
	if len(answer.Question) != 1 {
		return stray
	}
	a, q := answer.Question[0], query.Question[0]
	if a.Qtype != q.Qtype || a.Qclass != q.Qclass || dns.Lower(a.Name) != dns.Lower(q.Name) {
		return stray
	}
	return fits
}

// rcodeText returns the mnemonic of an RCODE.
func rcodeText(rcode int) string {
	if rcode == miekg.RcodeBadVers { // the number is also BADSIG, which only TSIG records have
		return "BADVERS"
	}
	if mnemonic, ok := miekg.RcodeToString[rcode]; ok {
		return mnemonic
	}
	return "RCODE " + strconv.Itoa(rcode)
}

// extendedErrors are the Extended DNS Errors of an answer (RFC 8914). They only shorten how long an answer is kept.
type extendedErrors struct {
	// reason is the first of them in parentheses, in printable ASCII, with a space in front; or "".
	reason string
	// bogus is set if one of them reports that validation failed.
	bogus bool
	// stale is set if the answer had expired in the cache of the resolver (RFC 8767).
	stale bool
}

func extended(m *miekg.Msg) (e extendedErrors) {
	opt := m.IsEdns0()
	if opt == nil {
		return e
	}
	const longest = 100
	for _, o := range opt.Option {
		ede, ok := o.(*miekg.EDNS0_EDE)
		if !ok {
			continue
		}
		// 5, DNSSEC Indeterminate, is not a failed validation; 6, DNSSEC Bogus, to 12, NSEC Missing, are.
		e.bogus = e.bogus || ede.InfoCode >= miekg.ExtendedErrorCodeDNSBogus && ede.InfoCode <= miekg.ExtendedErrorCodeNSECMissing
		e.stale = e.stale || ede.InfoCode == miekg.ExtendedErrorCodeStaleAnswer || ede.InfoCode == miekg.ExtendedErrorCodeStaleNXDOMAINAnswer
		if e.reason != "" {
			continue
		}
		reason := miekg.ExtendedErrorCodeToString[ede.InfoCode]
		if reason == "" {
			reason = "EDE " + strconv.Itoa(int(ede.InfoCode))
		}
		if ede.ExtraText != "" {
			reason += ": " + ede.ExtraText
		}
		e.reason = " (" + text.Printable(reason[:min(len(reason), longest)]) + ")"
	}
	return e
}
