package dane

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/text"
)

// failed returns the Result of a lookup that failed. An answer that is not cached says nothing about the host.
func failed(what string, err error) Result {
	if errors.Is(err, dns.ErrNotCached) {
		return Result{Err: err}
	}
	return Result{State: Failed, Err: err, Why: what + " failed: " + text.Printable(dns.Reason(err))}
}

// TLSAQuestion asks for the TLSA records of a base domain and port.
func TLSAQuestion(base string, port uint16) dns.Question {
	return dns.Question{Name: "_" + strconv.Itoa(int(port)) + "._tcp." + base, Type: dns.TypeTLSA}
}

// search is one Lookup in progress.
type search struct {
	resolver dns.Starter
	query    Query // Host in lower case without the final dot
}

func (s *search) ask(ctx context.Context, q dns.Question) (*dns.RRset, error) {
	return dns.Ask(ctx, s.resolver, q, s.query.Effort, time.Now().Add(s.query.Timeout))
}

func isAlias(r *dns.RRset) bool { return r.Owner != r.Name }

// resultFor returns what follows from the addresses of one family.
func (s *search) resultFor(ctx context.Context, addrs *dns.RRset) Result {
	names, result := s.candidates(ctx, addrs)
	if len(names) > 0 {
		result = s.tlsa(ctx, names)
	}
	if result.State != Unknown {
		result.Addresses = addrs.Status
	}
	return result
}

// candidates returns the TLSA base domains to try, best first, by the cases of RFC 7672 section 2.2.2. Names between
// the two ends of a chain of aliases are never among them. If there are none, the Result has the outcome.
func (s *search) candidates(ctx context.Context, addrs *dns.RRset) ([]string, Result) {
	original := s.query.Host
	secure, alias := addrs.Status == dns.Secure, isAlias(addrs)
	switch {
	case secure && alias:
		return []string{addrs.Owner, original}, Result{}
	case secure:
		return []string{original}, Result{}
	case !alias:
		return nil, Result{State: Absent, Why: "its addresses are not signed"}
	}
	// "If the initial CNAME response is also insecure, DANE TLS does not apply." The answer to an address question does
	// not show whether it is: its status is that of the whole chain.
	cname, err := s.ask(ctx, dns.Question{Name: original, Type: dns.TypeCNAME})
	if err != nil {
		return nil, failed("CNAME lookup for "+original, err)
	}
	if cname.Status != dns.Secure {
		return nil, Result{State: Absent, Why: "its alias and its addresses are not signed"}
	}
	return []string{original}, Result{}
}

// tlsa looks for a secure TLSA RRset at each base domain in turn. The first one found decides, even if none of its
// records can be used. "If any DNS queries used to locate TLSA records fail, then the SMTP client MUST treat
// that server as unreachable" (RFC 7672 section 2.1.2): a failure is not a denial.
func (s *search) tlsa(ctx context.Context, names []string) Result {
	none := Result{State: Absent, Why: "no TLSA records"}
	for _, base := range names {
		q := TLSAQuestion(base, s.query.Port)
		// A longer name cannot exist (RFC 1035 section 2.3.4). A name with escapes has fewer octets than characters.
		if len(q.Name) > 253 && !strings.Contains(q.Name, `\`) {
			continue
		}
		r, err := s.ask(ctx, q)
		switch {
		case err != nil:
			return failed("TLSA lookup at "+q.Name, err)
		case r.Status != dns.Secure:
			none.Why = "the TLSA records or their denial at " + q.Name + " are not signed"
		case len(r.TLSA()) > 0:
			return judge(r.TLSA(), q.Name)
		}
	}
	return none
}

// judge returns the meaning of a secure TLSA RRset.
func judge(records []dns.TLSA, owner string) Result {
	state, n := Unusable, 0
	for _, record := range records {
		if usable(record) {
			state, n = Usable, n+1
		}
	}
	why := fmt.Sprintf("TLSA records at %s: %d, usable: %d", owner, len(records), n)
	return Result{State: state, Records: records, Why: why}
}
