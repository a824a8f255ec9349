package dnsmsg

import (
	"cmp"
	"strconv"
	"strings"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/text"
)

// Rcode is a response code, including the bits that an OPT record has (RFC 6891 section 6.1.3).
type Rcode int

// ServerFailure is SERVFAIL. A validating resolver also returns it for a bogus answer (RFC 4035 section 5.5).
const ServerFailure Rcode = miekg.RcodeServerFailure

// String returns the mnemonic, such as "SERVFAIL", or "RCODE 3000" for a number without one.
func (r Rcode) String() string {
	if r == miekg.RcodeBadVers { // the number is also BADSIG, which only TSIG records have
		return "BADVERS"
	}
	return cmp.Or(miekg.RcodeToString[int(r)], "RCODE "+strconv.Itoa(int(r)))
}

// Rcode returns the response code of the answer.
func (a *Answer) Rcode() Rcode { return Rcode(a.msg.Rcode) }

// Failure returns why an answer is not useful, in printable ASCII: the mnemonic of its RCODE, and its first Extended
// DNS Error in parentheses.
func (a *Answer) Failure() string {
	reason, _, _ := a.extended()
	return a.Rcode().String() + reason
}

// extended reads the Extended DNS Errors of an answer (RFC 8914): the first as printable ASCII in parentheses after a
// space; whether one reports that validation failed; and whether one reports that the answer had expired in the cache
// of the resolver (RFC 8767).
func (a *Answer) extended() (reason string, bogus, stale bool) {
	opt := a.msg.IsEdns0()
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
