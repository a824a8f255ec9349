package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// protocols is the form of smtp_tls_protocols (postconf(5)). Colons separate the versions here, because a comma ends an
// attribute of a policy.
var protocols = regexp.MustCompile(`(?i)^((!|[<>]=)?(SSLv[23]|TLSv1(\.[123])?|0x[0-9a-f]+)(:|$))+$`)

// checkValue refuses the value of an attribute that Postfix would refuse or that could never match.
func checkValue(level, attribute, value string) error {
	ciphers := []string{"high", "medium", "low", "export", "null"}
	yesNo := attribute == "connection_reuse" || attribute == "enable_rpk"
	switch {
	case attribute == "match":
		return checkMatch(level, value)
	case attribute == "ciphers" && !slices.Contains(ciphers, value):
		return fmt.Errorf("ciphers=%s: use %s", value, strings.Join(ciphers, ", "))
	case yesNo && value != "yes" && value != "no":
		return fmt.Errorf("%s=%s: use yes, no", attribute, value)
	case attribute == "servername" && value != "hostname" && !exactHost(value):
		return fmt.Errorf("servername=%s: write hostname or the name of a host", value)
	case strings.Contains(value, ","):
		return fmt.Errorf("%s=%s: write a colon in place of each comma", attribute, value)
	case attribute == "protocols" && !protocols.MatchString(value):
		return fmt.Errorf("protocols=%s: write TLS versions, such as >=TLSv1.2 or !TLSv1:!TLSv1.1", value)
	case attribute == "tafile" && level != "verify" && level != "secure":
		return fmt.Errorf("tafile= is valid only with the levels verify and secure, not with %s", level)
	}
	return nil
}

// checkMatch refuses the value of match= that Postfix would refuse or that could never match.
func checkMatch(level, value string) error {
	if level == "fingerprint" {
		if strings.Trim(value, "0123456789abcdefABCDEF:|") != "" {
			return fmt.Errorf("match=%s: write fingerprints in hexadecimal with | between them", value)
		}
		return nil
	}
	for name := range strings.SplitSeq(value, ":") { // postconf(5), smtp_tls_secure_cert_match
		if !exactHost(strings.TrimPrefix(name, ".")) {
			return fmt.Errorf("match=%s: %q is not a host name: write mx.example.com, or .example.com for all "+
				"names below it, without a wildcard and without a final dot", value, name)
		}
	}
	return nil
}

// exactHost reports whether s is a host name as Postfix compares it: a final dot would never match.
func exactHost(s string) bool {
	_, ok := ParseName(s)
	return ok && !strings.HasSuffix(s, ".")
}
