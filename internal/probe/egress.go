package probe

import (
	"log/slog"
	"net/netip"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/smtptls"
)

// egressSuspects hosts, in as many networks, must have timed out and none may be open before the port counts as
// filtered on our side.
const (
	egressSuspects = 5
	egressMost     = 64
)

// egress collects the signs that the port is filtered on our side.
type egress struct {
	suspects map[netip.Prefix]string // the network of a host that timed out, and its name
	filtered bool
}

// hosts is the number of hosts that have timed out since a connection last succeeded.
func (e *egress) hosts() int {
	names := map[string]bool{}
	for _, name := range e.suspects {
		names[name] = true
	}
	return len(names)
}

// judgeEgress counts a probe for or against a filter on our side; p.mu is held. An accepted connection, whatever came
// of it, shows that the port gets through. A refusal is an answer and counts for neither: only silence is suspicious.
func (p *Prober) judgeEgress(name string, f finding) {
	e := &p.egress
	log := p.options.Logger.With(slog.Int("port", int(p.options.Port)))
	if f.connected {
		if e.filtered {
			log.Info("outbound connections to the port of implicit TLS succeed again")
			p.rates.slow(false)
		}
		*e = egress{}
		return
	}
	if f.verdict.State != Closed || f.verdict.Cause != smtptls.Timeout {
		return
	}
	if e.suspects == nil {
		e.suspects = map[netip.Prefix]string{}
	}
	where := address.Network(f.first)
	if address.Special(f.first) {
		// In loopback and private networks each address counts as a network.
		where = netip.PrefixFrom(f.first, f.first.BitLen())
	}
	if len(e.suspects) < egressMost {
		e.suspects[where] = name
	}
	if !e.filtered && e.hosts() >= egressSuspects && p.known[opened].Len() == 0 {
		e.filtered = true
		p.rates.slow(true)
		log.Warn("outbound port of implicit TLS appears to be blocked; all mail uses port 25 under its TLS policy",
			slog.Int("hosts", e.hosts()))
	}
}
