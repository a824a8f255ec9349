package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/policyd/policyd/internal/probe"
)

// checkEgress finds out whether port 25 and the port of implicit TLS can be reached from here. A host that does not
// answer may be down, so its silence never counts as a fault of this side.
func (e *exam) checkEgress(ctx context.Context) {
	port := strconv.Itoa(e.Settings.Port26.Port)
	switch probes := cmp.Or(e.daemon.Probes, &probe.Stats{}); {
	case probes.EgressFiltered:
		e.found("egress-filtered", "all probes of port "+port+" have failed", "# open it in the firewall")
	case probes.Hosts["open"] > 0:
		e.found("egress-open", fmt.Sprintf("probes have found port %s open at %d hosts", port, probes.Hosts["open"]))
	case len(e.Egress) == 0:
		e.found("egress-untested", "not tested: --egress names no host, and there are no probe results",
			"# with a host whose ports 25 and "+port+" are open:", "policyd doctor --egress mx.example.com")
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	for _, host := range e.Egress {
		for _, port := range []string{"25", port} {
			address := net.JoinHostPort(host, port)
			if conn, err := d.DialContext(ctx, "tcp", address); err != nil {
				e.found("egress-untested", "could not be tested: "+address+": "+err.Error())
			} else {
				_ = conn.Close()
				e.found("egress-open", address+" is reachable")
			}
		}
	}
}
