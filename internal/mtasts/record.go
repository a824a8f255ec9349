package mtasts

import (
	"errors"
	"fmt"
	"strings"

	"github.com/policyd/policyd/internal/dns"
)

// Errors of the TXT record. In every case the domain "does not have an available MTA-STS Policy" (RFC 8461 section
// 3.1); an earlier policy that is live still holds.
var (
	ErrNoRecord    = errors.New("mtasts: no MTA-STS record") // none begins with "v=STSv1;"
	ErrManyRecords = errors.New("mtasts: more than one MTA-STS record")
	ErrBadRecord   = errors.New("mtasts: malformed MTA-STS record") // it breaks the grammar or has no id
)

// ParseRecord reads one TXT record, its strings joined, by the grammar of RFC 8461 section 3.1, and returns its id: 1
// to 32 letters and digits. The error is ErrNoRecord for a record about something else and ErrBadRecord for a malformed
// one.
func ParseRecord(txt string) (id string, err error) {
	version, rest, found := strings.Cut(txt, ";")
	if !found || strings.TrimRight(version, blanks) != "v=STSv1" {
		return "", ErrNoRecord
	}
	fields := strings.Split(rest, ";")
	// "[sts-field-delim]": one delimiter may end the record.
	if last := len(fields) - 1; last > 0 && strings.Trim(fields[last], blanks) == "" {
		fields = fields[:last]
	} else if strings.TrimRight(fields[last], blanks) != fields[last] {
		return "", fmt.Errorf("%w: blanks at its end", ErrBadRecord)
	}
	for _, field := range fields {
		name, value, ok := strings.Cut(strings.Trim(field, blanks), "=")
		if !ok || !fieldName.MatchString(name) || !extensionValue.MatchString(value) {
			return "", fmt.Errorf("%w: a field that is not name=value", ErrBadRecord)
		}
		// "If any non-repeated field is duplicated, all entries except for the first
		// SHALL be ignored" (section 3.2); extensions are ignored altogether.
		if name != "id" || id != "" {
			continue
		}
		if !ValidID(value) {
			return "", fmt.Errorf("%w: the id is not 1 to 32 letters and digits", ErrBadRecord)
		}
		id = value
	}
	if id == "" {
		return "", fmt.Errorf("%w: no id", ErrBadRecord)
	}
	return strings.Clone(id), nil // a stored id must not keep the whole record in memory
}

// RecordID returns the id of the one MTA-STS record in a TXT RRset, RFC 8461 section 3.1: "TXT records ... that do
// not begin with "v=STSv1;" are discarded" first. The error is ErrNoRecord, ErrManyRecords or ErrBadRecord.
func RecordID(txts []string) (string, error) {
	id, err := "", ErrNoRecord
	for _, txt := range txts {
		i, e := ParseRecord(txt)
		if errors.Is(e, ErrNoRecord) {
			continue
		}
		if !errors.Is(err, ErrNoRecord) {
			return "", ErrManyRecords
		}
		id, err = i, e
	}
	return id, err
}

const (
	recordLabel = "_mta-sts."
	hostLabel   = "mta-sts."
)

// RecordQuestion asks for the TXT record of a policy domain.
func RecordQuestion(domain string) dns.Question {
	return dns.Question{Name: recordLabel + domain, Type: dns.TypeTXT}
}

// ValidDomain reports whether s, in lower case, can be a policy domain: a host name, short enough that the name of its
// record fits in DNS.
func ValidDomain(s string) bool {
	const longest = 253
	return len(s) <= longest-len(recordLabel) && validDomain(s)
}

// blanks is WSP of RFC 5234.
const blanks = " \t"

// ValidID reports whether s can be the id of a record.
func ValidID(s string) bool { return idForm.MatchString(s) }
