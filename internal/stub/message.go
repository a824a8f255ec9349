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

// pack makes the query, without ID, of a security-aware stub, the same that Postfix sends: RD, AD and DO set (RFC 6840
// section 5.7, RFC 3225 section 3), CD clear, and room for 1,232 octets. Some forwarders cache an answer together with
// the bits of the query, so two clients that ask differently can see a different AD bit.
func pack(q miekg.Question) ([]byte, error) {
	const payload = 1232
	m := miekg.Msg{
		MsgHdr:   miekg.MsgHdr{RecursionDesired: true, AuthenticatedData: true},
		Question: []miekg.Question{q},
	}
	return m.SetEdns0(payload, true).Pack()
}

// inet is a question in class IN about a name as dns.OnWire returns it.
func inet(fqdn string, t dns.Type) miekg.Question {
	return miekg.Question{Name: fqdn, Qtype: uint16(t), Qclass: miekg.ClassINET}
}

// parse reads the header, the question and the records that policyd uses. If the header and the question can be read
// but something else cannot, it returns both with errMalformed. A message that ends before its last record is
// malformed, although the library would accept it as one with fewer records.
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
// use. Of a signature only the type covered and the expiration are read. The text of a TXT record has no escapes.
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
			Hdr: h, TypeCovered: binary.BigEndian.Uint16(octets[off:]),
			Expiration: binary.BigEndian.Uint32(octets[off+8:]),
		}, next, nil
	case h.Rrtype == miekg.TypeTXT:
		txt := &miekg.TXT{Hdr: h}
		for off < next {
			from := off + 1
			if off = from + int(octets[off]); off > next {
				return nil, 0, errMalformed
			}
			txt.Txt = append(txt.Txt, string(octets[from:off]))
		}
		return txt, next, nil
	}
	return miekg.UnpackRRWithHeader(h, octets[:next], off) // some types are read to the end of the slice
}

// matches reports whether a message with the ID of a query answers its question: QR, opcode, name, class and type (RFC
// 5452 section 9.1).
func matches(answer *miekg.Msg, q miekg.Question) bool {
	if !isResponse(answer) || len(answer.Question) != 1 {
		return false
	}
	a := answer.Question[0]
	return a.Qtype == q.Qtype && a.Qclass == q.Qclass && dns.Lower(a.Name) == dns.Lower(q.Name)
}

// bareError reports whether a message is an error without a question section, as servers that do not know EDNS send.
func bareError(answer *miekg.Msg) bool {
	return isResponse(answer) && len(answer.Question) == 0 && !useful(answer)
}

func isResponse(m *miekg.Msg) bool {
	return m != nil && m.Response && m.Opcode == miekg.OpcodeQuery
}

// useful reports whether an answer says something about its name.
func useful(answer *miekg.Msg) bool {
	return answer.Rcode == miekg.RcodeSuccess || answer.Rcode == miekg.RcodeNameError
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

// extended reads the Extended DNS Errors of an answer (RFC 8914): the first as text in parentheses, in printable
// ASCII and with a space in front, whether one reports that validation failed, and whether one reports that the
// answer had expired in the cache of the resolver (RFC 8767).
func extended(m *miekg.Msg) (reason string, bogus, stale bool) {
	opt := m.IsEdns0()
	if opt == nil {
		return "", false, false
	}
	const longest = 100
	for _, o := range opt.Option {
		ede, ok := o.(*miekg.EDNS0_EDE)
		if !ok {
			continue
		}
		code := ede.InfoCode
		// 5, DNSSEC Indeterminate, is not a failed validation; 6, DNSSEC Bogus, to 12, NSEC Missing, are.
		bogus = bogus || code >= miekg.ExtendedErrorCodeDNSBogus && code <= miekg.ExtendedErrorCodeNSECMissing
		stale = stale || code == miekg.ExtendedErrorCodeStaleAnswer ||
			code == miekg.ExtendedErrorCodeStaleNXDOMAINAnswer
		if reason != "" {
			continue
		}
		if reason = miekg.ExtendedErrorCodeToString[code]; reason == "" {
			reason = "EDE " + strconv.Itoa(int(code))
		}
		if ede.ExtraText != "" {
			reason += ": " + ede.ExtraText
		}
		reason = " (" + text.Printable(reason[:min(len(reason), longest)]) + ")"
	}
	return reason, bogus, stale
}
