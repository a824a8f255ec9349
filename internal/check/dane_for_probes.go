package check

import (
	"context"
	"fmt"
	"time"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
)

// JudgeDANE returns a function for probe.Options. Its error means that a certificate matches none of the usable TLSA
// records of a host for a port. A failed lookup is not an error, because then there is no route to the host anyway.
func JudgeDANE(r dns.Starter, port uint16) func(context.Context, string, *smtptls.Session) error {
	const timeout = 10 * time.Second
	return func(ctx context.Context, host string, s *smtptls.Session) error {
		found := dane.Lookup(ctx, r,
			dane.Query{Host: host, Port: port, Effort: dns.Effort{Untrusted: true}, Timeout: timeout})
		if found.State == dane.Usable && !matches(found.Records, s, host, time.Now()) {
			return fmt.Errorf("no TLSA record for port %d matches it", port)
		}
		return nil
	}
}
