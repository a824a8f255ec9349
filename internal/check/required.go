package check

import (
	"slices"
	"strings"
)

// requires reports whether senders defer mail for a host because of an error, whatever its name: MTA-STS or DANE
// (also by unusable records) requires TLS of it, and MTA-STS also a valid certificate.
func (d *domain) requires(name, code string) bool {
	tlsa := func(h *host) bool { return h.Host.Host == name && strings.HasSuffix(h.TLSA.State, "usable") }
	valid := strings.HasPrefix(code, "port25-certificate-") || code == "port25-postfix"
	return strings.HasPrefix(code, "port25-") &&
		(slices.Contains(d.decision.TLS.Match, name) || !valid && slices.ContainsFunc(d.hosts, tlsa))
}
