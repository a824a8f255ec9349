package policy

import (
	"fmt"
	"slices"

	"github.com/policyd/policyd/internal/dane"
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
	best := &f.Hosts[first]
	front := f.hostsWhere(func(h *Host) bool { return h.Preference < best.Preference })
	if d.need.Required.Addresses = front &^ f.Known.Addresses; d.need.Required.Addresses != 0 {
		return
	}
	n := 0
	for i := range f.Hosts {
		if front.Has(i) {
			n += f.Hosts[i].Addresses
		}
	}
	if n >= addressLimit {
		d.InFront = n
		d.because(fmt.Sprintf("%d addresses come before %s, the first MX host that the policy allows: with "+
			"smtp_mx_address_limit = %d, its default, Postfix never tries that host; set smtp_mx_address_limit = 0",
			n, best.Name, addressLimit))
	}
}
