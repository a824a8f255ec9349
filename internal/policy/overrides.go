package policy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// Override is one line of the overrides file. The zero Override has no effect. Any line rules out a route.
type Override struct {
	Pattern string // the domain in the form of the file: example.com or .example.com
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

// checkPolicy refuses what Postfix would refuse, or what could never match: a bad policy text defers all mail for the
// destination (postconf(5), smtp_tls_policy_maps).
func checkPolicy(policy string) error {
	if text.Printable(policy) != policy {
		return errors.New("the policy has a character outside printable ASCII")
	}
	levels := []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}
	attributes := []string{"ciphers", "connection_reuse", "enable_rpk", "exclude", "match", "protocols", "servername",
		"tafile"}
	once := []string{"exclude", "ciphers", "protocols", "servername"} // Postfix refuses a second one
	fields := strings.Fields(policy)
	level := fields[0]
	if !slices.Contains(levels, level) {
		return unknown("action", level, append([]string{"ignore", "no-port26"}, levels...),
			"write ignore, no-port26 or a policy that begins with a TLS level ("+strings.Join(levels, ", ")+")")
	}
	for _, f := range fields[1:] {
		attribute, value, _ := strings.Cut(f, "=")
		switch {
		case !slices.Contains(attributes, attribute):
			return unknown("policy attribute", attribute, attributes, "use "+strings.Join(attributes, ", "))
		case value == "":
			return fmt.Errorf("the policy attribute %s has no value: write %s=value", attribute, attribute)
		case slices.Contains(once, attribute) && strings.Count(policy, " "+attribute+"=") > 1:
			return fmt.Errorf("the policy attribute %s appears twice: keep one of them", attribute)
		case attribute == "match" && level != "fingerprint" && level != "verify" && level != "secure":
			return fmt.Errorf("match= is valid only with the levels fingerprint, verify and secure, not with %s", level)
		}
		if err := checkValue(level, attribute, value); err != nil {
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
		advice = "did you mean " + near + "?"
	}
	return fmt.Errorf("unknown %s %q: %s", what, word, advice)
}
