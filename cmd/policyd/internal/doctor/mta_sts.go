package doctor

import (
	"cmp"
	"fmt"
	"time"

	"github.com/policyd/policyd/internal/stsstore"
)

// checkMTASTS reports whether the daemon can fetch MTA-STS policies.
func (e *exam) checkMTASTS() {
	switch m := cmp.Or(e.daemon.MTASTS, &stsstore.Stats{}); {
	case !m.Blocked.IsZero():
		e.found("mta-sts-blocked", "all fetches of MTA-STS policies have failed since "+m.Blocked.Format(time.DateTime),
			"# allow outgoing TCP connections to port 443, or set HTTPS_PROXY for policyd.service, and:",
			e.setting("mta_sts", "proxy_from_environment = true"),
			"apt-get install ca-certificates    # if there are no root certificates")
	case m.Fetches["ok"] > 0:
		e.found("mta-sts-fetched", fmt.Sprintf("MTA-STS policies that were fetched: %d", m.Fetches["ok"]))
	}
}
