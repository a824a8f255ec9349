package policy

import (
	"fmt"
	"slices"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
)

// addressLimit is the default of smtp_mx_address_limit: Postfix tries at most that many addresses of a destination,
// counting both families, best preference first.
const addressLimit = 5

// warnOfAddressLimit warns of a policy whose hosts Postfix may never try, because too many addresses come before them.
// Such mail waits until it bounces. The addresses are required facts, but the decision does not depend on them.
func warnOfAddressLimit(f *Facts, d *Decision) {
	first := slices.IndexFunc(f.Hosts, func(h Host) bool {
		return d.TLS.Level == LevelSecure && slices.Contains(d.TLS.Match, h.Name) ||
			d.TLS.Level == LevelDANEOnly && h.DANE.State == dane.Usable
	})
	if first < 0 || f.Nexthop.Host {
		return
	}
	allowed, n := &f.Hosts[first], 0
	for i, h := range f.Hosts[:first] {
		// If these addresses could not be looked up for DANE, another attempt would only take more time.
		failed := h.DANE.State == dane.Failed && h.DANE.Addresses == dns.Indeterminate
		if h.Preference < allowed.Preference && !failed {
			n += h.Addresses
			d.Need.Required.Addresses |= 1 << i &^ f.Known.Addresses
		}
	}
	if d.Need.Required.Addresses == 0 && n >= addressLimit {
		d.InFront = n
		d.because(fmt.Sprintf("%d addresses come before %s, the first MX host that the policy allows: with "+
			"smtp_mx_address_limit = %d, its default, Postfix never tries that host; set smtp_mx_address_limit = 0",
			n, allowed.Name, addressLimit))
	}
}
