package policy

import (
	"strings"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/prefix"
)

// FirstHosts is how many hosts of a next hop are looked up early. This bounds the cost of a domain with more hosts.
const FirstHosts = 3

// expected returns the DNS questions that the next steps will probably ask: the addresses of the first hosts if the
// MTA-STS policy is required now, and otherwise the record that announces it. On the port of implicit TLS the policy
// only narrows the prefixed hosts.
//
// TLSA records are asked for early only where a host is probably signed; then one address family decides, and AAAA is
// not expected. The addresses of any other host must first be known to be secure: "name servers … that mishandle TLSA
// queries" (RFC 7672 section 2.2.2) make a resolver give up on them for all domains that they serve.
func expected(f *Facts, o *Options, stsRequired bool) []dns.Question {
	questions := make([]dns.Question, 0, 3*FirstHosts) // A, AAAA and TLSA, or TLSA and TXT
	for i, h := range f.Hosts[:min(len(f.Hosts), FirstHosts)] {
		if f.Nexthop.Host || !prefix.ValidHost(h.Name) {
			continue
		}
		if stsRequired {
			questions = append(questions, dns.Question{Name: h.Name, Type: dns.TypeA})
		}
		if f.LikelySigned(i) {
			questions = append(questions, dane.TLSAQuestion(h.Name, f.Nexthop.Port))
		} else if stsRequired {
			questions = append(questions, dns.Question{Name: h.Name, Type: dns.TypeAAAA})
		}
	}
	if !stsRequired && stsMissing(f, o) && (f.Nexthop.Port == prefix.SMTPPort || len(f.Prefixed()) > 0) {
		questions = append(questions, mtasts.RecordQuestion(f.Nexthop.Name))
	}
	return questions
}

// LikelySigned reports whether a host is probably signed: it is at or below a domain with a secure MX RRset, or its
// addresses were secure when they were last looked up. Only the order of the questions depends on it, not the decision.
func (f *Facts) LikelySigned(i int) bool {
	h := &f.Hosts[i]
	own := h.Name == f.Nexthop.Name || strings.HasSuffix(h.Name, "."+f.Nexthop.Name)
	return h.Signed || own && f.MX.signed()
}
