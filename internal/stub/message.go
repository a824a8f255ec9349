package stub

import (
	"cmp"
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
	bits := miekg.MsgHdr{RecursionDesired: true, AuthenticatedData: true}
	m := miekg.Msg{MsgHdr: bits, Question: []miekg.Question{q}}
	return m.SetEdns0(1232, true).Pack()
}

// inet is a question in class IN about a name as dns.OnWire returns it.
func inet(fqdn string, t dns.Type) miekg.Question {
	return miekg.Question{Name: fqdn, Qtype: uint16(t), Qclass: miekg.ClassINET}
}

// parse reads a message. If the header and the question can be read but something else cannot, it returns both with
// errMalformed. A message that ends before its last record is malformed, although the library accepts it as one with
// fewer records: that would be a denial, or a part of an RRset.
func parse(octets []byte) (m *miekg.Msg, err error) {
	m = new(miekg.Msg)
	defer func() {
		if recover() != nil { // malformed messages have made the library panic
			err = errMalformed
		}
	}()
	if m.Unpack(octets) != nil {
		return m, errMalformed
	}
	const counts = 4 // where the header has them
	for i, n := range []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)} {
		if int(binary.BigEndian.Uint16(octets[counts+2*i:])) != n {
			return m, errMalformed
		}
	}
	return m, nil
}

// matches reports whether a message with the ID of a query answers its question: QR, opcode, name, class and type (RFC
// 5452 section 9.1); or whether it is an error without a question section, as servers that do not know EDNS send.
func matches(m *miekg.Msg, q miekg.Question) (fits, bareError bool) {
	if !m.Response || m.Opcode != miekg.OpcodeQuery || len(m.Question) > 1 {
		return false, false
	}
	if len(m.Question) == 0 {
		return false, !useful(m)
	}
	a := m.Question[0]
	return a.Qtype == q.Qtype && a.Qclass == q.Qclass && dns.Lower(a.Name) == dns.Lower(q.Name), false
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
	return cmp.Or(miekg.RcodeToString[rcode], "RCODE "+strconv.Itoa(rcode))
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
		if reason == "" {
			reason = cmp.Or(miekg.ExtendedErrorCodeToString[code], "EDE "+strconv.Itoa(int(code)))
			if ede.ExtraText != "" {
				reason += ": " + ede.ExtraText
			}
			reason = " (" + text.Printable(reason[:min(len(reason), longest)]) + ")"
		}
	}
	return reason, bogus, stale
}
