package mtasts

import (
	"errors"
	"strings"

	"github.com/policyd/policyd/internal/dns"
)

// Errors of the TXT record. In every case the domain "does not have an available MTA-STS Policy" (RFC 8461 section
// 3.1); an earlier policy that is live still holds.
var (
	ErrNoRecord    = errors.New("mtasts: no MTA-STS record") // none begins with "v=STSv1;"
	ErrManyRecords = errors.New("mtasts: more than one MTA-STS record")
	ErrBadRecord   = errors.New("mtasts: malformed MTA-STS record, or one without an id of 1 to 32 letters and digits")
)

// RecordID returns the id of the one MTA-STS record in a TXT RRset, RFC 8461 section 3.1: "TXT records ... that do
// not begin with "v=STSv1;" are discarded" first. The strings of each record are joined. The error is ErrNoRecord,
// ErrManyRecords or ErrBadRecord.
func RecordID(txts []string) (string, error) {
	var record string // the last one found
	found := 0
	for _, txt := range txts {
		version, _, ended := strings.Cut(txt, ";")
		if ended && strings.TrimRight(version, blanks) == "v=STSv1" {
			record = txt
			found++
		}
	}
	if found == 0 {
		return "", ErrNoRecord
	}
	if found > 1 {
		return "", ErrManyRecords
	}
	match := recordForm.FindStringSubmatch(record)
	if match == nil || !ValidID(match[1]) {
		return "", ErrBadRecord
	}
	return strings.Clone(match[1]), nil // a stored id must not keep the whole record in memory
}

const recordLabel = "_mta-sts."

// RecordQuestion asks for the TXT record of a policy domain.
func RecordQuestion(domain string) dns.Question {
	return dns.Question{Name: recordLabel + domain, Type: dns.TypeTXT}
}

// ValidDomain reports whether s, in lower case, can be a policy domain: a host name, short enough that the name of its
// record fits in DNS.
func ValidDomain(s string) bool {
	return len(s) <= maxName-len(recordLabel) && validDomain(s)
}

// blanks is WSP of RFC 5234.
const blanks = " \t"

// ValidID reports whether s can be the id of a record.
func ValidID(s string) bool { return idForm.MatchString(s) }
