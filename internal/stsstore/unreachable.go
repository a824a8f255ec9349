package stsstore

import (
	"log/slog"
	"time"

	"github.com/policyd/policyd/internal/blocked"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/text"
)

// noteUnreachable notes a fetch that failed; the fetches for the domain have been failing since first. A policy host
// that answered shows that policies can be fetched from this host.
func (s *Store) noteUnreachable(err *mtasts.Error, first time.Time, log *slog.Logger) {
	if err.Answered() {
		s.noteReachable(log)
	} else if s.blocked.Failed(err.Domain, err.Addr, first, false) {
		log.Warn("no MTA-STS policy can be fetched from this host", "domains", blocked.Enough, "last", err.Domain,
			"err", text.Line(err.Err.Error(), maxText))
	}
}

// noteReachable notes that a policy host could be reached.
func (s *Store) noteReachable(log *slog.Logger) {
	if since := s.blocked.Succeeded(); !since.IsZero() {
		log.Info("MTA-STS policies can be fetched again", "dur", time.Since(since).Round(time.Second).String())
	}
}
