package policy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// Override is one line of the overrides file. The zero Override has no effect. With any line there is no route.
type Override struct {
	Pattern string // the domain as the file has it: example.com or .example.com
	Ignore  bool   // the domain gets NOTFOUND from both maps
	// Policy is the literal TLS policy, byte for byte what Postfix gets, or "". With neither Ignore nor Policy the TLS
	// policy is as if there were no line.
	Policy string
}

func (r Override) why() string { return "the overrides file has a line for " + r.Pattern }

// Overrides are the lines of an overrides file by their patterns.
type Overrides map[string]Override

// For returns the most specific line for name, which is in the form of ParseName: the line for the name itself, else
// the one for its nearest parent with a dot in front.
func (o Overrides) For(name string) Override {
	for i := range len(name) {
		if i == 0 || name[i] == '.' {
			if r, ok := o[name[i:]]; ok {
				return r
			}
		}
	}
	return Override{}
}

// ParseOverrides reads an overrides file: one "domain action" per line, "#" comments. It calls mistake with what is
// wrong in a line and what to write.
func ParseOverrides(file []byte, mistake func(line int, what string)) Overrides {
	o := Overrides{}
	lines, n := bufio.NewScanner(bytes.NewReader(file)), 1
	for ; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rule, err := parseOverride(line)
		if _, twice := o[rule.Pattern]; twice && err == nil {
			err = fmt.Errorf("a second line for %s: keep one of them", rule.Pattern)
		}
		if err != nil {
			mistake(n, err.Error())
			continue
		}
		o[rule.Pattern] = rule
	}
	if lines.Err() != nil {
		mistake(n, "the line has more than 64 KiB: write a shorter one; the lines after it were not read")
	}
	return o
}

func parseOverride(line string) (Override, error) {
	line, _, _ = strings.Cut(line, " #")
	domain := strings.Fields(line)[0]
	action := strings.TrimSpace(line[len(domain):])
	parent := strings.TrimPrefix(domain, ".")
	base, ok := ParseName(parent)
	rule := Override{Pattern: strings.TrimSuffix(domain, parent) + base, Ignore: action == "ignore"}
	switch {
	case !ok:
		return Override{}, fmt.Errorf("%q is not a domain: write example.com, or .example.com for all its subdomains",
			domain)
	case action == "":
		return Override{}, fmt.Errorf(`no action for %s: write ignore, no-port26 or a policy such as `+
			`"secure match=mx.example.com servername=hostname"`, domain)
	case action == "no-port26" || rule.Ignore:
		return rule, nil
	}
	if word := strings.Fields(action)[0]; word == "no-port26" || word == "ignore" {
		return Override{}, fmt.Errorf("%q: write nothing after %s except a comment that begins with #", action, word)
	}
	rule.Policy = action
	return rule, checkPolicy(action)
}

// protocols is the form of smtp_tls_protocols (postconf(5)). Colons separate the versions here, because a comma ends an
// attribute of a policy.
var protocols = regexp.MustCompile(`(?i)^((!|[<>]=)?(SSLv[23]|TLSv1(\.[123])?|0x[0-9a-f]+)(:|$))+$`)

// checkPolicy refuses what Postfix would refuse, or what could never match: a bad policy text defers all mail for the
// destination (postconf(5), smtp_tls_policy_maps).
func checkPolicy(policy string) error {
	if text.Printable(policy) != policy {
		return errors.New("the policy has a character outside printable ASCII")
	}
	levels := []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}
	yesNo := []string{"yes", "no"}
	attributes := map[string][]string{ // with their values, if those are few
		"match": nil, "exclude": nil, "ciphers": {"high", "medium", "low", "export", "null"}, "protocols": nil,
		"tafile": nil, "servername": nil, "connection_reuse": yesNo, "enable_rpk": yesNo,
	}
	fields := strings.Fields(policy)
	level := fields[0]
	if !slices.Contains(levels, level) {
		return unknown("action", level, append([]string{"ignore", "no-port26"}, levels...),
			"write ignore, no-port26 or a policy that begins with a TLS level ("+strings.Join(levels, ", ")+")")
	}
	pkix := level == "verify" || level == "secure"
	once := []string{"exclude", "ciphers", "protocols", "servername"} // Postfix refuses a second one
	for i, f := range fields[1:] {
		attribute, value, _ := strings.Cut(f, "=")
		values, ok := attributes[attribute]
		twice := func(earlier string) bool { return strings.HasPrefix(earlier, attribute+"=") }
		switch {
		case !ok:
			names := slices.Sorted(maps.Keys(attributes))
			return unknown("policy attribute", attribute, names, "use "+strings.Join(names, ", "))
		case value == "":
			return fmt.Errorf("the policy attribute %s has no value: write %s=value", attribute, attribute)
		case values != nil && !slices.Contains(values, value):
			return fmt.Errorf("%s=%s: use %s", attribute, value, strings.Join(values, ", "))
		case attribute == "servername" && value != "hostname" && !exactHost(value):
			return fmt.Errorf("servername=%s: write hostname or the name of a host", value)
		case attribute != "match" && strings.Contains(value, ","):
			return fmt.Errorf("%s=%s: write a colon in place of each comma", attribute, value)
		case slices.Contains(once, attribute) && slices.ContainsFunc(fields[1:i+1], twice):
			return fmt.Errorf("the policy attribute %s appears twice: keep one of them", attribute)
		case attribute == "protocols" && !protocols.MatchString(value):
			return fmt.Errorf("protocols=%s: write TLS versions, such as >=TLSv1.2 or !TLSv1:!TLSv1.1", value)
		case attribute == "tafile" && !pkix:
			return fmt.Errorf("tafile= goes with the levels verify and secure only, not with %s", level)
		case attribute == "match" && level == "fingerprint" && strings.Trim(value, "0123456789abcdefABCDEF:|") != "":
			return fmt.Errorf("match=%s: write fingerprints in hexadecimal with | between them", value)
		case attribute != "match" || level == "fingerprint":
		case !pkix:
			return fmt.Errorf("match= goes with the levels fingerprint, verify and secure only, not with %s", level)
		default:
			for name := range strings.SplitSeq(value, ":") { // postconf(5), smtp_tls_secure_cert_match
				if !exactHost(strings.TrimPrefix(name, ".")) {
					return fmt.Errorf("match=%s: %q is not a host name: write mx.example.com, or .example.com for all "+
						"names below it, without a wildcard and without a final dot", value, name)
				}
			}
		}
	}
	if level == "fingerprint" && !strings.Contains(policy, " match=") {
		return errors.New("the level fingerprint needs match=")
	}
	return nil
}

// exactHost reports whether s is a host name as Postfix compares it: a final dot would never match.
func exactHost(s string) bool {
	_, ok := ParseName(s)
	return ok && !strings.HasSuffix(s, ".")
}

// unknown returns the error for a word that is not one of those that are known.
func unknown(what, word string, known []string, advice string) error {
	if near := text.Nearest(word, known); near != "" {
		advice = "did you mean " + near + "?"
	}
	return fmt.Errorf("unknown %s %q: %s", what, word, advice)
}
