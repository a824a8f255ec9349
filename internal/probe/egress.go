package probe

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/smtptls"
)

// That many hosts, in as many networks, have to be closed by time-out or refusal, and none open, before our own side
// comes under suspicion.
const (
	egressSuspects = 5
	egressMost     = 64
)

// egress is the suspicion that the port is filtered on our side.
type egress struct {
	suspects map[netip.Prefix]string // the network of a closed host, and its name
	since    time.Time               // zero while there is no suspicion
}

// Egress says whether the port seems to be filtered on our side.
type Egress struct {
	Filtered bool
	// Since is when that was first seen.
	Since time.Time
	// Hosts is how many hosts speak for it: closed by time-out or refusal since a connection last succeeded.
	Hosts int
}

// Egress returns what is known about our own side.
func (p *Prober) Egress() Egress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Egress{Filtered: !p.egress.since.IsZero(), Since: p.egress.since, Hosts: p.egress.hosts()}
}

func (e *egress) hosts() int {
	names := map[string]bool{}
	for _, name := range e.suspects {
		names[name] = true
	}
	return len(names)
}

// judgeEgress takes a probe as a witness; p.mu is held. Any connection that was taken, whatever came of it, shows that the
// port gets through.
func (p *Prober) judgeEgress(name string, f finding, now time.Time) {
	e := &p.egress
	log := p.options.Logger.With(slog.Int("port", int(p.options.Port)))
	if f.connected {
		if !e.since.IsZero() {
			log.Info("connections to the port of implicit TLS succeed again: it is no longer taken for filtered on our side")
			p.rates.slow(false)
		}
		*e = egress{}
		return
	}
	if f.verdict.State != Closed || f.verdict.Cause != smtptls.Timeout && f.verdict.Cause != smtptls.Refused {
		return
	}
	if e.suspects == nil {
		e.suspects = map[netip.Prefix]string{}
	}
	where := network(f.first)
	if address.Special(f.first) {
		// Loopback and private networks are small worlds: there an address is a network of its own.
		where = netip.PrefixFrom(f.first, f.first.BitLen())
	}
	if len(e.suspects) < egressMost {
		e.suspects[where] = name
	}
	if e.since.IsZero() && e.hosts() >= egressSuspects && p.known[kind(true)].Len() == 0 {
		e.since = now
		p.rates.slow(true)
		log.Warn("the port of implicit TLS is probably filtered on our side: every host is closed by time-out or refusal; mail goes to port 25 under the TLS policy, and probing is slowed down", slog.Int("hosts", e.hosts()))
	}
}
