package mtasts

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxPolicySize is how many octets a policy may have, RFC 8461 section 3.3.
const MaxPolicySize = 64 << 10

// MaxMaxAge is the longest max_age, RFC 8461 section 3.2: a little over a year.
const MaxMaxAge = 31557600 * time.Second

// maxName is how many octets a domain name may have, without the final dot (RFC 1035 section 2.3.4).
const maxName = 253

const (
	label     = `[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?`
	delimiter = `[ \t]*;[ \t]*`                              // sts-field-delim
	extension = `[0-9A-Za-z][0-9A-Za-z_.-]{0,31}=[!-:<>-~]+` // sts-extension
)

// The forms of policies and records, RFC 8461 sections 3.1 and 3.2.
var (
	// letters, digits, hyphens and underscores; no label begins or ends with a hyphen.
	domainForm = regexp.MustCompile(`^` + label + `(?:\.` + label + `)*$`)
	// sts-policy-ext-name, which includes all known names.
	fieldName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_.-]{0,31}$`)
	// sts-policy-ext-value: UTF-8 without control characters.
	fieldValue = regexp.MustCompile(`^[^\x00-\x1f\x7f]+$`)
	// sts-text-record, capturing its first id: "all entries except for the first SHALL be ignored" (section 3.2).
	recordForm = regexp.MustCompile(`^v=STSv1(?:` + delimiter + extension + `)*?` + delimiter + `id=([!-:<>-~]+)(?:` +
		delimiter + extension + `)*(?:` + delimiter + `)?$`)
	// 1*32(ALPHA / DIGIT).
	idForm = regexp.MustCompile(`^[0-9A-Za-z]{1,32}$`)
)

// ParsePolicy reads the body that a policy host serves, by the grammar of RFC 8461 section 3.2: lines "name: value"
// ended by CRLF or LF, in any order, with the names and the values of version and mode in exactly this case. It keeps
// unknown fields in Raw and ignores them otherwise. If a field that may not repeat does, the first counts. Blank lines
// are allowed only at the end, where many published policies have one more than the grammar. Report an error as
// PolicyInvalid; an earlier policy that is live still holds.
func ParsePolicy(body []byte) (Policy, error) {
	if len(body) > MaxPolicySize {
		return Policy{}, bad("longer than 64 KiB")
	}
	if !utf8.Valid(body) {
		return Policy{}, bad("not UTF-8")
	}
	var p Policy
	fields := map[string]string{} // the first value of each
	seen := map[string]bool{}     // the patterns in p.MX
	for line := range strings.SplitSeq(strings.TrimRight(string(body), "\r\n"+blanks), "\n") {
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), blanks)
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, blanks)
		if !ok || !fieldName.MatchString(name) || !fieldValue.MatchString(value) {
			return Policy{}, bad("a line that is not name: value")
		}
		p.Raw = append(p.Raw, line)
		// "If any non-repeated field--that is, all fields excepting "mx"--is
		// duplicated, all entries except for the first SHALL be ignored."
		if _, again := fields[name]; !again {
			fields[name] = value
		}
		if name != "mx" {
			continue
		}
		if !validPattern(value) {
			return Policy{}, bad("an mx that is neither a host name nor *. and a domain")
		}
		mx := strings.ToLower(value)
		if !seen[mx] {
			seen[mx] = true
			p.MX = append(p.MX, mx)
		}
	}
	maxAge, ok := parseMaxAge(fields["max_age"])
	p.Mode, p.MaxAge = Mode(fields["mode"]), maxAge
	// "If any field is not specified, the policy SHALL be treated as invalid", except
	// that mx may be missing in mode none.
	switch {
	case fields["version"] != "STSv1":
		return Policy{}, bad("version is not STSv1")
	case p.Mode != Enforce && p.Mode != Testing && p.Mode != None:
		return Policy{}, bad("mode is not enforce, testing or none")
	case !ok:
		return Policy{}, bad("max_age is not a number of seconds")
	case len(p.MX) == 0 && p.Mode != None:
		return Policy{}, bad("no mx")
	}
	p.MX, p.Raw = slices.Clip(p.MX), slices.Clip(p.Raw)
	return p, nil
}

// Matches reports whether the policy allows host, the name in an MX record, in any case, with or without the final dot
// (RFC 8461 section 4.1): "*" stands for exactly one label, so "*.example.com" allows mail.example.com but neither
// example.com nor a.b.example.com.
func (p Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, parent, _ := strings.Cut(host, ".")
	return validDomain(host) && (slices.Contains(p.MX, host) || slices.Contains(p.MX, "*."+parent))
}

func bad(reason string) error { return errors.New("mtasts: malformed policy: " + reason) }

// parseMaxAge reads a number of seconds, of any length. More than MaxMaxAge counts as MaxMaxAge: the domain asks for
// protection, and RFC 8461 does not call such a policy invalid (erratum 7282).
func parseMaxAge(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseUint(s, 10, 64)
	if err != nil || seconds > uint64(MaxMaxAge/time.Second) { // the only possible error is ErrRange
		return MaxMaxAge, true
	}
	return time.Duration(seconds) * time.Second, true
}

// validPattern reports whether s is ["*."] Domain. Unlike other names in DNS, patterns may not have underscores.
func validPattern(s string) bool {
	return validDomain(strings.TrimPrefix(s, "*.")) && !strings.Contains(s, "_")
}

// validDomain reports whether s is a Domain of RFC 5321 section 4.1.2 that fits in DNS.
func validDomain(s string) bool { return len(s) <= maxName && domainForm.MatchString(s) }
