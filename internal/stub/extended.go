package stub

import (
	"strconv"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/text"
)

// rcodeText names an RCODE.
func rcodeText(rcode int) string {
	if text, ok := miekg.RcodeToString[rcode]; ok {
		return text
	}
	return "RCODE " + strconv.Itoa(rcode)
}

// extended returns the Extended DNS Errors of an answer (RFC 8914) for people, in printable ASCII, and whether
// one of them says that validation failed.
func extended(m *miekg.Msg) (reason string, bogus bool) {
	opt := m.IsEdns0()
	if opt == nil {
		return "", false
	}
	const longest = 100
	for _, o := range opt.Option {
		ede, ok := o.(*miekg.EDNS0_EDE)
		if !ok {
			continue
		}
		// 5 DNSSEC Indeterminate is no verdict; 6 DNSSEC Bogus to 12 NSEC Missing are.
		bogus = bogus || ede.InfoCode >= miekg.ExtendedErrorCodeDNSBogus && ede.InfoCode <= miekg.ExtendedErrorCodeNSECMissing
		if reason != "" {
			continue
		}
		reason = miekg.ExtendedErrorCodeToString[ede.InfoCode]
		if reason == "" {
			reason = "EDE " + strconv.Itoa(int(ede.InfoCode))
		}
		if ede.ExtraText != "" {
			reason += ": " + ede.ExtraText
		}
		reason = " (" + text.Printable(reason[:min(len(reason), longest)]) + ")"
	}
	return reason, bogus
}
