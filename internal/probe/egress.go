package probe

import (
	"log/slog"
	"net/netip"
	"slices"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/smtptls"
)

// egressSuspects hosts, in as many networks, must have timed out and none may be open before the port counts as
// filtered on our side.
const egressSuspects = 5

// egress collects the signs that the port is filtered on our side.
type egress struct {
	suspects []suspect // since a connection last succeeded, each with a name and a network of its own
	filtered bool
}

// suspect is a host that timed out.
type suspect struct {
	name    string
	network netip.Prefix
}

// judgeEgress counts a probe for or against a filter on our side; p.mu is held. An accepted connection, whatever came
// of it, shows that the port gets through. A refusal is an answer and counts for neither: only silence is suspicious.
func (p *Prober) judgeEgress(name string, f finding) {
	e := &p.egress
	log := p.options.Logger.With(slog.Int("port", int(p.options.Port)))
	if f.connected {
		if e.filtered {
			log.Info("outbound connections to the port of implicit TLS succeed again")
		}
		*e = egress{}
		return
	}
	if f.Cause != smtptls.Timeout || e.filtered {
		return
	}
	s := suspect{name, address.Network(f.first)}
	if address.Special(f.first) {
		// In loopback and private networks each address counts as a network.
		s.network = netip.PrefixFrom(f.first, f.first.BitLen())
	}
	if len(e.suspects) < egressSuspects && !slices.ContainsFunc(e.suspects,
		func(other suspect) bool { return other.name == s.name || other.network == s.network }) {
		e.suspects = append(e.suspects, s)
	}
	open := 0
	for _, h := range p.hosts {
		open += h.open()
	}
	if len(e.suspects) == egressSuspects && open == 0 {
		e.filtered = true
		log.Warn("outbound port of implicit TLS appears to be blocked; all mail uses port 25 under its TLS policy",
			slog.Int("hosts", egressSuspects))
	}
}
