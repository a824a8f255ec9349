package mtasts

import (
	"errors"
	"fmt"
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

// ErrBadPolicy is what ParsePolicy returns, with the reason, for anything that is not
// a valid policy. Report it as PolicyInvalid; the policy that was live before goes on holding.
var ErrBadPolicy = errors.New("mtasts: malformed policy")

// ParsePolicy reads the body that a policy host serves, by the grammar of RFC 8461
// section 3.2: lines "name: value" ended by CRLF or LF, in any order, names and values
// of version and mode in exactly this case. Unknown fields are kept in Raw and otherwise
// ignored. Of a field that may not repeat, the first counts. Blank lines are allowed at
// the end only, where many published policies have one more than the grammar gives.
func ParsePolicy(body []byte) (Policy, error) {
	if len(body) > MaxPolicySize {
		return Policy{}, bad("longer than 64 KiB")
	}
	if !utf8.Valid(body) {
		return Policy{}, bad("not UTF-8")
	}
	var p Policy
	var version, maxAge bool
	for line := range strings.SplitSeq(strings.TrimRight(string(body), "\r\n"+blanks), "\n") {
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), blanks)
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, blanks)
		if !ok || !fieldName(name) || !fieldValue(value) {
			return Policy{}, bad("a line that is not name: value")
		}
		p.Raw = append(p.Raw, line)
		// "If any non-repeated field--that is, all fields excepting "mx"--is
		// duplicated, all entries except for the first SHALL be ignored."
		switch {
		case name == "version" && !version:
			version = true
			if value != "STSv1" {
				return Policy{}, bad("a version other than STSv1")
			}
		case name == "mode" && p.Mode == ModeUnknown:
			if p.Mode = parseMode(value); p.Mode == ModeUnknown {
				return Policy{}, bad("a mode other than enforce, testing and none")
			}
		case name == "max_age" && !maxAge:
			if p.MaxAge, maxAge = parseMaxAge(value); !maxAge {
				return Policy{}, bad("max_age is not a number of seconds")
			}
		case name == "mx":
			if !validPattern(value) {
				return Policy{}, bad("an mx that is neither a host name nor *. and a domain")
			}
			p.MX = append(p.MX, strings.ToLower(value))
		}
	}
	// "If any field is not specified, the policy SHALL be treated as invalid", except
	// that mx may be missing in mode none.
	switch {
	case !version:
		return Policy{}, bad("no version")
	case p.Mode == ModeUnknown:
		return Policy{}, bad("no mode")
	case !maxAge:
		return Policy{}, bad("no max_age")
	case len(p.MX) == 0 && p.Mode != None:
		return Policy{}, bad("no mx")
	}
	p.MX = unique(p.MX)
	p.Raw = slices.Clip(p.Raw)
	return p, nil
}

// Matches reports whether the policy allows host, the name in an MX record, in any case,
// with or without the final dot, RFC 8461 section 4.1: "*.example.com" stands for exactly
// one label, so it allows mail.example.com but neither example.com nor a.b.example.com.
func (p Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !validDomain(host, true) {
		return false
	}
	_, parent, _ := strings.Cut(host, ".")
	for _, pattern := range p.MX {
		suffix, wild := strings.CutPrefix(pattern, "*.")
		if wild && suffix == parent || !wild && pattern == host {
			return true
		}
	}
	return false
}

// bad returns ErrBadPolicy with the reason.
func bad(reason string) error { return fmt.Errorf("%w: %s", ErrBadPolicy, reason) }

func parseMode(s string) Mode {
	switch s {
	case "enforce":
		return Enforce
	case "testing":
		return Testing
	case "none":
		return None
	}
	return ModeUnknown
}

// parseMaxAge reads a number of seconds, of any length. More than MaxMaxAge counts as MaxMaxAge: the domain asks for
// protection, and RFC 8461 does not say that such a policy is invalid (erratum 7282).
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

// fieldValue reports whether s is a sts-policy-ext-value: UTF-8 without control
// characters and without blanks around it. Blanks inside it are spaces.
func fieldValue(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return s != ""
}

// validPattern reports whether s is ["*."] Domain.
func validPattern(s string) bool {
	return validDomain(strings.TrimPrefix(s, "*."), false)
}

// validDomain reports whether s is a Domain of RFC 5321 section 4.1.2 that fits in DNS:
// labels of letters, digits and hyphens, none beginning or ending in a hyphen.
// underscores allows those as well: owner names and hosts in DNS may have them.
func validDomain(s string, underscores bool) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !letterDigit(c) && c != '-' && (c != '_' || !underscores) {
				return false
			}
		}
	}
	return true
}

// unique returns list without repetitions, in order.
func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.Clip(slices.DeleteFunc(list, func(s string) bool {
		known := seen[s]
		seen[s] = true
		return known
	}))
}
