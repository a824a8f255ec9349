package policy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// Override is one line of the overrides file. The zero Override has no effect. With any line there is no route.
type Override struct {
	// Pattern is the domain as the file has it: example.com or .example.com.
	Pattern string
	// Ignore is set for a domain that gets NOTFOUND from both maps.
	Ignore bool
	// Policy is the literal TLS policy, byte for byte what Postfix gets, or "". With neither Ignore nor Policy the TLS
	// policy is as if there were no line.
	Policy string
}

// Overrides are the lines of an overrides file by their patterns.
type Overrides map[string]Override

// For returns the most specific line for name, which is in the form of ParseName: the
// line for the name itself, else the one for its nearest parent with a dot in front.
func (o Overrides) For(name string) Override {
	if r, ok := o[name]; ok || len(o) == 0 {
		return r
	}
	for i := range len(name) {
		if name[i] == '.' {
			if r, ok := o[name[i:]]; ok {
				return r
			}
		}
	}
	return Override{}
}

// ParseOverrides reads an overrides file: one "domain action" per line, "#" comments. The error has one line for each
// mistake: "name:line: what is wrong: what to write".
func ParseOverrides(name string, r io.Reader) (Overrides, error) {
	o := Overrides{}
	lines := bufio.NewScanner(r)
	var mistakes []error
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rule, err := parseOverride(line)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s:%d: %w", name, n, err))
			continue
		}
		if _, twice := o[rule.Pattern]; twice {
			mistakes = append(mistakes, fmt.Errorf("%s:%d: a second line for %s: keep one of them", name, n,
				rule.Pattern))
			continue
		}
		o[rule.Pattern] = rule
	}
	if err := lines.Err(); err != nil {
		mistakes = append(mistakes, fmt.Errorf("%s:%d: %w", name, n+1, err))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return o, nil
}

func parseOverride(line string) (Override, error) {
	line, _, _ = strings.Cut(line, " #")
	domain := strings.Fields(line)[0]
	action := strings.TrimSpace(line[len(domain):])
	parent := strings.TrimPrefix(domain, ".")
	base, ok := ParseName(parent)
	if !ok {
		return Override{}, fmt.Errorf("%q is not a domain: write example.com, or .example.com for all its subdomains",
			domain)
	}
	rule := Override{Pattern: strings.TrimSuffix(domain, parent) + base}
	switch action {
	case "":
		return Override{}, fmt.Errorf(
			"no action for %s: write ignore, no-port26 or a policy such as \"secure match=mx.example.com "+
				"servername=hostname\"", domain)
	case "ignore":
		rule.Ignore = true
	case "no-port26":
	default:
		if err := checkPolicy(action); err != nil {
			return Override{}, err
		}
		rule.Policy = action
	}
	return rule, nil
}

// checkPolicy refuses what Postfix would refuse: a bad policy text defers all mail for the destination (postconf(5),
// smtp_tls_policy_maps).
func checkPolicy(policy string) error {
	if i := strings.IndexFunc(policy, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("the policy has a character outside printable ASCII at byte %d", i+1)
	}
	fields := strings.Fields(policy)
	level := fields[0]
	levels := []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}
	if !slices.Contains(levels, level) {
		return unknown("action", level, append([]string{"ignore", "no-port26"}, levels...),
			"write ignore, no-port26 or a policy that begins with a TLS level ("+strings.Join(levels, ", ")+")")
	}
	attributes := []string{"match", "exclude", "ciphers", "protocols", "tafile", "servername", "connection_reuse",
		"enable_rpk"}
	for _, f := range fields[1:] {
		attribute, value, _ := strings.Cut(f, "=")
		if !slices.Contains(attributes, attribute) {
			return unknown("policy attribute", attribute, attributes, "use "+strings.Join(attributes, ", "))
		}
		if value == "" {
			return fmt.Errorf("the policy attribute %s has no value: write %s=value", attribute, attribute)
		}
		if err := checkAttribute(level, attribute, value); err != nil {
			return err
		}
	}
	if level == "fingerprint" && !strings.Contains(policy, " match=") {
		return errors.New("the level fingerprint needs match=")
	}
	return nil
}

// unknown returns the error for a word that is not one of those that are known.
func unknown(what, word string, known []string, advice string) error {
	if near := text.Nearest(word, known); near != "" {
		return fmt.Errorf("unknown %s %q: did you mean %s?", what, word, near)
	}
	return fmt.Errorf("unknown %s %q: %s", what, word, advice)
}

// checkAttribute refuses a value that Postfix would refuse, or that could never match.
func checkAttribute(level, attribute, value string) error {
	words := map[string][]string{
		"ciphers": {"high", "medium", "low", "export", "null"}, "connection_reuse": {"yes", "no"},
		"enable_rpk": {"yes", "no"},
	}[attribute]
	switch _, ok := ParseName(value); {
	case words != nil && !slices.Contains(words, value):
		return fmt.Errorf("%s=%s: use %s", attribute, value, strings.Join(words, ", "))
	case attribute == "servername" && value != "hostname" && (!ok || strings.HasSuffix(value, ".")):
		return fmt.Errorf("servername=%s: write hostname or the name of a host", value)
	case attribute != "match" || level == "fingerprint":
		return nil
	case level != "verify" && level != "secure":
		return fmt.Errorf("match= goes with the levels fingerprint, verify and secure only, not with %s", level)
	}
	for name := range strings.SplitSeq(value, ":") { // postconf(5), smtp_tls_secure_cert_match
		below, wildcard := strings.CutPrefix(name, "*.")
		host := strings.TrimSuffix(strings.TrimPrefix(below, "."), ".")
		_, ok := ParseName(host)
		switch {
		case slices.Contains([]string{"hostname", "nexthop", "dot-nexthop"}, name):
		case !ok:
			return fmt.Errorf(
				"match=%s: %q is not a host name: write mx.example.com, or .example.com for all names below it", name,
				name)
		case wildcard:
			return fmt.Errorf("match=%s: Postfix knows no wildcards here: write match=.%s for all names below %s", name,
				host, host)
		case strings.HasSuffix(name, "."):
			return fmt.Errorf("match=%s: with a final dot Postfix never matches: write match=%s", name,
				strings.TrimSuffix(name, "."))
		}
	}
	return nil
}
