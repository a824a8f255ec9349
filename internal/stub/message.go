package stub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

var (
	// errMalformed is returned for a message that does not follow RFC 1035 section 4.
	errMalformed = errors.New("malformed answer")
	// errStray is returned for a message that does not answer the query, and for a query that has got only such ones.
	errStray = fmt.Errorf("not an answer to the query: %w", context.DeadlineExceeded)
)

// inet is a question in class IN about a name as dns.OnWire returns it.
func inet(fqdn string, t dns.Type) miekg.Question {
	return miekg.Question{Name: fqdn, Qtype: uint16(t), Qclass: miekg.ClassINET}
}

// reply reads a message that may answer a query: it has the ID and the question of the query (RFC 5452 section 9.1), or
// it is an error without a question, as servers that do not know EDNS send. Any other message is an errStray: data
// without a question could be that of another name. An answer that cannot be read is an errMalformed, unless it is
// truncated.
func reply(octets []byte, id uint16, q miekg.Question) (*miekg.Msg, error) {
	m, err := parse(octets)
	fits := len(m.Question) == 0 && err == nil && !useful(m) || len(m.Question) == 1 && m.Question[0] == q
	switch {
	case !fits || m.Id != id || !m.Response || m.Opcode != miekg.OpcodeQuery:
		return nil, errStray
	case err != nil && !m.Truncated:
		return nil, err
	}
	return m, nil
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
			const longest = 100
			reason = cmp.Or(miekg.ExtendedErrorCodeToString[code], "EDE "+strconv.Itoa(int(code)))
			reason = strings.TrimSuffix(reason+": "+ede.ExtraText, ": ")
			reason = " (" + text.Printable(reason[:min(len(reason), longest)]) + ")"
		}
	}
	return reason, bogus, stale
}
