package status

import (
	"strings"

	"github.com/policyd/policyd/internal/promises"
)

// PromiseStatus is the state of the remembered promises.
type PromiseStatus struct {
	promises.Stats
	Domains []string `json:"domains"` // some of those whose promise is missing
}

// warnPromises adds warnings about the remembered promises and about the fleet that shares them.
func (st *Status) warnPromises(add func(yes bool, format string, args ...any)) {
	if p := st.Promises; p != nil {
		add(p.Missing > 0, "promises vanished from unsigned answers (domains: %d, mail held: %d), for example of %s: "+
			"see policyd promises list --vanished", p.Missing, p.Held, strings.Join(p.Domains, ", "))
	}
	if f := st.Fleet; f != nil {
		add(!f.Up, "fleet store unavailable; nothing is shared, and lookups are not affected: %s", f.Error)
		add(f.Ignored["mac"] > 0, "fleet records ignored because of their MAC: %d; compare fleet.key_file on all nodes",
			f.Ignored["mac"])
	}
}
