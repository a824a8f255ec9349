package stub

import (
	"context"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// SignatureExpires returns when the first of the signatures of an RRset expires (RFC 4034 section 3.1.5), or false if
// no server returns signatures (RFC 4035 section 3.2.1). It is for display only.
func (s *Stub) SignatureExpires(ctx context.Context, q dns.Question) (time.Time, bool) {
	now := s.now.Load()
	name, ok := dns.OnWire(q.Name)
	if !ok {
		return time.Time{}, false
	}
	query := newQuery(name, uint16(q.Type), miekg.ClassINET)
	for _, server := range now.candidates() {
		answer, err := s.send(ctx, now, target{server, now.options.Timeout}, query)
		if err == nil {
			return firstToExpire(answer, q.Type)
		}
	}
	return time.Time{}, false
}

// firstToExpire returns the earliest end of the signatures over a type in an answer, those of other names on a CNAME
// chain included.
func firstToExpire(m *miekg.Msg, t dns.Type) (end time.Time, ok bool) {
	for _, rr := range m.Answer {
		signature, is := rr.(*miekg.RRSIG)
		if !is || signature.TypeCovered != uint16(t) {
			continue
		}
		if expires := time.Unix(int64(signature.Expiration), 0); !ok || expires.Before(end) {
			end, ok = expires, true
		}
	}
	return end, ok
}
