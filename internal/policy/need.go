package policy

import (
	"strings"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/prefix"
)

// Need says what a decision lacks.
type Need struct {
	// Required are the facts that the rule in question rests on. While there are any, the Decision beside them defers.
	Required FactSet
	// Expected are DNS questions that a later step will probably ask. Asked together with the required ones, they save
	// a round trip. Their answers only fill the cache.
	Expected []dns.Question
	// Brief is set if the decision does not have to wait for an MTA-STS policy that must be fetched first, because a
	// prefix decides without it. A policy that the store has always counts.
	Brief bool
}

// FactSet is a set of facts.
type FactSet struct {
	MX, STS         bool    // the MX RRset, the MTA-STS policy
	Relay, Receiver bool    // whether the next hop is a relay host of Postfix, whether this site receives the domain
	Probes          bool    // the verdicts about the smtps- hosts
	Validates       bool    // whether the resolver passes its self-test now
	DANE, DANE26    HostSet // the DANE results for the port of the next hop and for the port of implicit TLS
	Addresses       HostSet // how many addresses the hosts have
}

// FirstHosts is how many hosts of a next hop are looked up early. What a domain with more of them costs is bounded.
const FirstHosts = 3

// Empty reports whether no fact is in the set.
func (s FactSet) Empty() bool { return s == FactSet{} }

// Add adds the facts of another set.
func (s *FactSet) Add(o FactSet) {
	s.MX, s.STS, s.Relay, s.Receiver = s.MX || o.MX, s.STS || o.STS, s.Relay || o.Relay, s.Receiver || o.Receiver
	s.Probes, s.Validates = s.Probes || o.Probes, s.Validates || o.Validates
	s.DANE, s.DANE26, s.Addresses = s.DANE|o.DANE, s.DANE26|o.DANE26, s.Addresses|o.Addresses
}

// HostSet is a set of indices into Facts.Hosts.
type HostSet uint32

// Has reports whether the set contains an index.
func (s HostSet) Has(i int) bool { return s&(1<<i) != 0 }

// hostsWhere returns the hosts for which f is true.
func (f *Facts) hostsWhere(is func(h *Host) bool) HostSet {
	var s HostSet
	for i := range f.Hosts {
		if is(&f.Hosts[i]) {
			s |= 1 << i
		}
	}
	return s
}

// withoutDANE returns the hosts of which it is not known what DANE says.
func (f *Facts) withoutDANE() HostSet {
	return f.hostsWhere(func(h *Host) bool { return h.DANE.State == dane.Unknown })
}

// expected returns the DNS questions that the next steps will probably ask: the addresses of the first hosts if the
// MTA-STS policy is required now, and otherwise the record that announces it. On the port of implicit TLS the policy
// only narrows the prefixed hosts.
//
// TLSA records are asked for early only where a host is probably signed; then one address family decides, and AAAA is
// not expected. Of any other host the addresses must be known to be secure first: "name servers … that mishandle TLSA
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
	match, _ := prefixed(f)
	if !stsRequired && stsMissing(f, o) && (f.Nexthop.Port == SMTPPort || len(match) > 0) {
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
