package policy

import (
	"fmt"
	"slices"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
)

// addressLimit is the default of smtp_mx_address_limit: Postfix tries that many addresses of a destination, of both
// families together, best preference first, and no more.
const addressLimit = 5

// reach warns of a policy that allows only hosts which Postfix may never try, because too many addresses come first.
// Such mail waits until it bounces. The addresses are required facts, but the decision does not depend on them.
func reach(f *Facts, d *Decision) {
	first := slices.IndexFunc(f.Hosts, func(h Host) bool {
		return d.TLS.Level == LevelSecure && slices.Contains(d.TLS.Match, h.Name) ||
			d.TLS.Level == LevelDANEOnly && h.DANE.State == dane.Usable
	})
	if first < 0 || f.Nexthop.Host {
		return
	}
	best, n := &f.Hosts[first], 0
	front := f.hostsWhere(func(h *Host) bool {
		// Where these addresses could not be looked up for DANE, another attempt would only take more time.
		if h.Preference >= best.Preference || h.DANE.State == dane.Failed && h.DANE.Addresses == dns.Indeterminate {
			return false
		}
		n += h.Addresses
		return true
	})
	if d.Need.Required.Addresses = front &^ f.Known.Addresses; d.Need.Required.Addresses == 0 && n >= addressLimit {
		d.InFront = n
		d.because(fmt.Sprintf("%d addresses come before %s, the first MX host that the policy allows: with "+
			"smtp_mx_address_limit = %d, its default, Postfix never tries that host; set smtp_mx_address_limit = 0",
			n, best.Name, addressLimit))
	}
}
