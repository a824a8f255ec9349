package policy

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Action is what an operator has ruled for a domain.
type Action uint8

// The actions of the overrides file.
const (
	ActionNone     Action = iota
	ActionIgnore          // NOTFOUND to both maps
	ActionNoPort26        // no route; the TLS policy as if there were no line
	ActionLiteral         // the TLS policy is the text of the line; no route
)

// Override is one line of the overrides file. The zero Override rules nothing.
type Override struct {
	Action Action
	// Policy is the text of ActionLiteral, byte for byte what Postfix gets.
	Policy string
	// Pattern is the domain as the file has it: example.com or .example.com.
	Pattern string
}

// Overrides are the lines of an overrides file. A nil *Overrides has none.
type Overrides struct {
	byPattern map[string]Override
}

// For returns the most specific line for name, which is in the form of ParseName: the
// line for the name itself, else the one for its nearest parent with a dot in front.
func (o *Overrides) For(name string) Override {
	if o == nil || len(o.byPattern) == 0 {
		return Override{}
	}
	if r, ok := o.byPattern[name]; ok {
		return r
	}
	for i := range len(name) {
		if name[i] == '.' {
			if r, ok := o.byPattern[name[i:]]; ok {
				return r
			}
		}
	}
	return Override{}
}

// Len returns the number of lines that rule something.
func (o *Overrides) Len() int {
	if o == nil {
		return 0
	}
	return len(o.byPattern)
}

// ParseOverrides reads an overrides file: "domain action" a line, "#" comments. The
// error names the file (by name), the line, what is wrong and what to write.
func ParseOverrides(name string, r io.Reader) (*Overrides, error) {
	o := &Overrides{byPattern: map[string]Override{}}
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rule, err := parseOverride(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if _, twice := o.byPattern[rule.Pattern]; twice {
			return nil, fmt.Errorf("%s:%d: a second line for %s: keep one of them", name, n, rule.Pattern)
		}
		o.byPattern[rule.Pattern] = rule
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
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
		rule.Action = ActionIgnore
	case "no-port26":
		rule.Action = ActionNoPort26
	default:
		if err := checkPolicy(action); err != nil {
			return Override{}, err
		}
		rule.Action, rule.Policy = ActionLiteral, action
	}
	return rule, nil
}

// checkPolicy refuses what Postfix would refuse: a bad policy text defers all mail
// for the destination (postconf(5), smtp_tls_policy_maps).
func checkPolicy(text string) error {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return fmt.Errorf("the policy has a character outside printable ASCII at byte %d", i+1)
		}
	}
	fields := strings.Fields(text)
	levels := []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}
	if !slices.Contains(levels, fields[0]) {
		return fmt.Errorf("%q is neither ignore nor no-port26 nor a TLS level (%s)", fields[0], strings.Join(levels, ", "))
	}
	attributes := []string{"match", "exclude", "ciphers", "protocols", "tafile", "servername", "connection_reuse", "enable_rpk"}
	for _, f := range fields[1:] {
		attribute, value, _ := strings.Cut(f, "=")
		if !slices.Contains(attributes, attribute) {
			return fmt.Errorf("%q is not a policy attribute (%s)", attribute, strings.Join(attributes, ", "))
		}
		if value == "" {
			return fmt.Errorf("the policy attribute %s has no value: write %s=…", attribute, attribute)
		}
		if attribute == "match" && !slices.Contains([]string{"fingerprint", "verify", "secure"}, fields[0]) {
			return fmt.Errorf("match= goes with the levels fingerprint, verify and secure only, not with %s", fields[0])
		}
	}
	if fields[0] == "fingerprint" && !strings.Contains(text, " match=") {
		return fmt.Errorf("the level fingerprint needs match=")
	}
	return nil
}
