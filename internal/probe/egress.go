package probe

import (
	"log/slog"
	"slices"
	"time"

	"github.com/policyd/policyd/internal/blocked"
	"github.com/policyd/policyd/internal/smtptls"
)

// judgeEgress counts a probe for or against a filter on our side; p.hosts is locked. An accepted connection, whatever
// came of it, shows that the port gets through. A refusal is an answer and counts for neither. Only silence is
// suspicious, and only while no host is open.
func (p *Prober) judgeEgress(name string, f finding) {
	o := p.options.Load()
	log := o.Logger.With(slog.Int("port", int(o.Port)))
	if slices.ContainsFunc(f.transcripts, func(t smtptls.Transcript) bool { return t.Connected }) {
		if !p.egress.Succeeded().IsZero() {
			log.Info("outbound connections to the port of implicit TLS succeed again")
		}
		return
	}
	anyOpen := false
	for _, h := range p.hosts.Records {
		anyOpen = anyOpen || h.open()
	}
	if f.Cause == smtptls.Timeout && p.egress.Failed(name, f.transcripts[0].Addr.Addr(), time.Now(), anyOpen) {
		log.Warn("outbound port of implicit TLS appears to be blocked; all mail uses port 25 under its TLS policy",
			slog.Int("hosts", blocked.Enough))
	}
}
