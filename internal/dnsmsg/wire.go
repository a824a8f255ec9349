package dnsmsg

import (
	"encoding/binary"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// MaxQuery is the size of the longest query: a header, a name of 255 octets, its type and class, and an OPT record.
const MaxQuery = 12 + 255 + 4 + 11

// Pack writes the query of a security-aware stub into a buffer of at least MaxQuery octets. The caller sets the ID, the
// first two octets. The query is the same that Postfix sends: RD, AD and DO set (RFC 6840 section 5.7, RFC 3225 section
// 3), CD clear, and room for 1,232 octets. Some forwarders cache an answer together with the bits of the query, so two
// clients that ask differently can see a different AD bit. The error means that Name is not a domain name.
func (q Query) Pack(buffer []byte) ([]byte, error) {
	const header = "\x00\x00\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01" // RD and AD; one question, one additional record
	const opt = "\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"        // OPT at the root; 1,232 octets, DO, no options
	end, err := miekg.PackDomainName(q.Name, buffer, copy(buffer, header), nil, false)
	if err != nil {
		return nil, err
	}
	query := binary.BigEndian.AppendUint16(buffer[:end], uint16(q.Type))
	query = binary.BigEndian.AppendUint16(query, q.Class)
	return append(query, opt...), nil
}

// parse reads a message, except the data of records that policyd does not use, such as signatures and their denials. If
// the header and the question can be read but something else cannot, it returns both with ErrMalformed. That includes a
// message that ends before its last record: it would look like a denial, or a part of an RRset. The names of the
// question and of records are in lower case; those in the data of records are not.
func parse(octets []byte) (a *Answer, err error) {
	a = new(Answer)
	m := &a.msg
	defer func() {
		if recover() != nil { // a read beyond the end, or a bug of the library
			err = ErrMalformed
		}
	}()
	count := func(section int) int { return int(binary.BigEndian.Uint16(octets[4+2*section:])) } // in the header
	off := 12
	_ = m.Unpack(octets[:off]) // the header
	m.Question, m.Answer, m.Extra = a.question[:0], a.records[:0:1], a.records[1:1]
	for range count(0) {
		var q miekg.Question
		q.Name, off, err = miekg.UnpackDomainName(octets, off)
		if err != nil {
			return a, ErrMalformed
		}
		q.Name = dns.Lower(q.Name)
		q.Qtype, q.Qclass = binary.BigEndian.Uint16(octets[off:]), binary.BigEndian.Uint16(octets[off+2:])
		m.Question, off = append(m.Question, q), off+4
	}
	for i, section := range []*[]miekg.RR{&m.Answer, &m.Ns, &m.Extra} {
		for range count(1 + i) {
			var rr miekg.RR
			rr, off, err = parseRecord(octets, off, m.Question)
			if err != nil {
				return a, ErrMalformed
			}
			*section = append(*section, rr)
			if rr.Header().Rrtype == miekg.TypeOPT {
				m.Rcode |= m.IsEdns0().ExtendedRcode()
			}
		}
	}
	return a, nil
}

// parseRecord reads the record at off, and returns the offset of the next one. It reads only the type covered and the
// expiration of a signature, and no data of types that policyd does not use. The text of a TXT record has no escapes.
func parseRecord(octets []byte, off int, asked []miekg.Question) (rr miekg.RR, next int, err error) {
	name := ""
	if len(asked) > 0 && octets[off] == 0xc0 && octets[off+1] == 12 { // usually a pointer to the name of the question
		name, off = asked[0].Name, off+2
	} else {
		name, off, err = miekg.UnpackDomainName(octets, off)
	}
	if err != nil {
		return nil, 0, err
	}
	fixed := octets[off:]
	h := miekg.RR_Header{
		Name: dns.Lower(name), Rrtype: binary.BigEndian.Uint16(fixed), Class: binary.BigEndian.Uint16(fixed[2:]),
		Ttl: binary.BigEndian.Uint32(fixed[4:]), Rdlength: binary.BigEndian.Uint16(fixed[8:]),
	}
	off += 10
	next = off + int(h.Rdlength)
	if next > len(octets) {
		return nil, 0, ErrMalformed
	}
	data := octets[off:next:next]
	switch h.Rrtype {
	case miekg.TypeRRSIG:
		covered, expires := binary.BigEndian.Uint16(data), binary.BigEndian.Uint32(data[8:])
		return &miekg.RRSIG{Hdr: h, TypeCovered: covered, Expiration: expires}, next, nil
	case miekg.TypeTXT:
		txt := &miekg.TXT{Hdr: h}
		for len(data) > 0 {
			end := 1 + int(data[0])
			txt.Txt, data = append(txt.Txt, string(data[1:end])), data[end:]
		}
		return txt, next, nil
	case miekg.TypeA, miekg.TypeAAAA, miekg.TypeCNAME, miekg.TypeMX, miekg.TypeOPT, miekg.TypeSOA, miekg.TypeTLSA:
		return miekg.UnpackRRWithHeader(h, octets[:next], off) // some types are read to the end of the slice
	}
	return &miekg.RFC3597{Hdr: h}, next, nil
}
