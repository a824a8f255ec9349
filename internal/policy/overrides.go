package policy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
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
			mistakes = append(mistakes, fmt.Errorf("%s:%d: a second line for %s: keep one of them", name, n, rule.Pattern))
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
	domain, action := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		domain, action = line[:i], strings.TrimSpace(line[i:])
	}
	if i := strings.Index(action, " #"); i >= 0 {
		action = strings.TrimSpace(action[:i])
	}
	dot := ""
	if strings.HasPrefix(domain, ".") {
		dot = "."
	}
	base, ok := ParseName(domain[len(dot):])
	if !ok {
		return Override{}, fmt.Errorf("%q is not a domain: write example.com, or .example.com for all its subdomains", domain)
	}
	rule := Override{Pattern: dot + base}
	switch action {
	case "":
		return Override{}, fmt.Errorf("no action for %s: write ignore, no-port26 or a policy such as \"secure match=mx.example.com servername=hostname\"", domain)
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

// checkPolicy refuses what Postfix would refuse: a bad policy text defers all mail
// for the destination (postconf(5), smtp_tls_policy_maps).
func checkPolicy(policy string) error {
	for i := range len(policy) {
		if policy[i] < ' ' || policy[i] > '~' {
			return fmt.Errorf("the policy has a character outside printable ASCII at byte %d", i+1)
		}
	}
	fields := strings.Fields(policy)
	levels := []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}
	if !slices.Contains(levels, fields[0]) {
		if near := text.Nearest(fields[0], append([]string{"ignore", "no-port26"}, levels...)); near != "" {
			return fmt.Errorf("unknown action %q: did you mean %s?", fields[0], near)
		}
		return fmt.Errorf("unknown action %q: write ignore, no-port26 or a policy that begins with a TLS level (%s)", fields[0], strings.Join(levels, ", "))
	}
	attributes := []string{"match", "exclude", "ciphers", "protocols", "tafile", "servername", "connection_reuse", "enable_rpk"}
	for _, f := range fields[1:] {
		attribute, value, _ := strings.Cut(f, "=")
		if !slices.Contains(attributes, attribute) {
			if near := text.Nearest(attribute, attributes); near != "" {
				return fmt.Errorf("unknown policy attribute %q: did you mean %s?", attribute, near)
			}
			return fmt.Errorf("unknown policy attribute %q: use %s", attribute, strings.Join(attributes, ", "))
		}
		if value == "" {
			return fmt.Errorf("the policy attribute %s has no value: write %s=value", attribute, attribute)
		}
		if err := checkAttribute(fields[0], attribute, value); err != nil {
			return err
		}
	}
	if fields[0] == "fingerprint" && !strings.Contains(policy, " match=") {
		return fmt.Errorf("the level fingerprint needs match=")
	}
	return nil
}

// checkAttribute refuses a value that Postfix would refuse, or that could never match.
func checkAttribute(level, attribute, value string) error {
	choice := func(words ...string) error {
		if slices.Contains(words, value) {
			return nil
		}
		return fmt.Errorf("%s=%s: use %s", attribute, value, strings.Join(words, ", "))
	}
	switch attribute {
	case "match":
		if !slices.Contains([]string{"fingerprint", "verify", "secure"}, level) {
			return fmt.Errorf("match= goes with the levels fingerprint, verify and secure only, not with %s", level)
		}
		if level == "fingerprint" {
			return nil
		}
		for name := range strings.SplitSeq(value, ":") {
			if err := checkMatch(name); err != nil {
				return err
			}
		}
	case "servername":
		if name, ok := ParseName(value); value != "hostname" && (!ok || strings.HasSuffix(value, ".") || !prefix.ValidHost(name)) {
			return fmt.Errorf("servername=%s: write hostname or the name of a host", value)
		}
	case "ciphers":
		return choice("high", "medium", "low", "export", "null")
	case "connection_reuse", "enable_rpk":
		return choice("yes", "no")
	}
	return nil
}

// checkMatch checks one name of match= (postconf(5), smtp_tls_secure_cert_match).
func checkMatch(name string) error {
	if slices.Contains([]string{"hostname", "nexthop", "dot-nexthop"}, name) {
		return nil
	}
	below, wildcard := strings.CutPrefix(name, "*.")
	host := strings.TrimSuffix(strings.TrimPrefix(below, "."), ".")
	if parsed, ok := ParseName(host); !ok || !prefix.ValidHost(parsed) {
		return fmt.Errorf("match=%s: %q is not a host name: write mx.example.com, or .example.com for all names below it", name, name)
	}
	switch {
	case wildcard:
		return fmt.Errorf("match=%s: Postfix knows no wildcards here: write match=.%s for all names below %s", name, host, host)
	case strings.HasSuffix(name, "."):
		return fmt.Errorf("match=%s: with a final dot Postfix never matches: write match=%s", name, strings.TrimSuffix(name, "."))
	}
	return nil
}
