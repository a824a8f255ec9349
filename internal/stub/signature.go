package stub

import (
	"context"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// SignatureExpires returns when the first of the signatures over an RRset expires (RFC 4034 section 3.1.5), those of
// other names on a CNAME chain included, or false if no server returns signatures (RFC 4035 section 3.2.1). It is for
// display only.
func (s *Stub) SignatureExpires(ctx context.Context, q dns.Question) (end time.Time, ok bool) {
	now := s.now.Load()
	name, ok := dns.OnWire(q.Name)
	if !ok {
		return time.Time{}, false
	}
	for _, server := range now.candidates() {
		answer, err := s.send(ctx, now, server, now.options.Timeout, inet(name, q.Type))
		if err != nil {
			continue
		}
		for _, rr := range answer.Answer {
			signature, is := rr.(*miekg.RRSIG)
			if !is || signature.TypeCovered != uint16(q.Type) {
				continue
			}
			if expires := time.Unix(int64(signature.Expiration), 0); end.IsZero() || expires.Before(end) {
				end = expires
			}
		}
		break
	}
	return end, !end.IsZero()
}
