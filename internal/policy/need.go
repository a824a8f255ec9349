package policy

import (
	"iter"
	"math/bits"
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
	// Expected are DNS questions that a later step will most likely ask. Asked together with the required ones, they
	// save a round trip. Their answers only fill the cache.
	Expected []dns.Question
	// Brief is set if the decision does not have to wait for an MTA-STS policy that must be fetched first, because a
	// prefix decides without it. A policy that the store has always counts.
	Brief bool
}

// FactSet is a set of facts.
type FactSet struct {
	// MX is the MX RRset, STS the MTA-STS policy, Relay whether the next hop is a relay host of Postfix, Receiver
	// whether this site receives the domain, Probes the verdicts about the smtps- hosts, Validates whether the resolver
	// passes its self-test now.
	MX, STS, Relay, Receiver, Probes, Validates bool
	// DANE and DANE26 are the DANE results of the hosts, for the port of the next hop and for the port of implicit TLS.
	DANE, DANE26 HostSet
	// Addresses are how many addresses the hosts have.
	Addresses HostSet
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

// All returns the indices in the set, in order.
func (s HostSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for ; s != 0; s &= s - 1 {
			if !yield(bits.TrailingZeros32(uint32(s))) {
				return
			}
		}
	}
}

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

// expectSTS returns the question for the TXT record of the domain. On the port of implicit TLS the policy only narrows
// the prefixed hosts.
func expectSTS(f *Facts, o *Options) []dns.Question {
	match, _ := prefixed(f)
	if !stsMissing(f, o) || f.Nexthop.Port != SMTPPort && len(match) == 0 {
		return nil
	}
	return []dns.Question{mtasts.RecordQuestion(f.Nexthop.Name)}
}

// expectTLSA returns the questions for the TLSA records of hosts that are signed in all likelihood: at or below a
// domain with a secure MX RRset, or with secure addresses the last time. For other hosts they must not be asked before
// their addresses are known to be secure: "name servers … that mishandle TLSA queries" (RFC 7672 section 2.2.2) make a
// resolver give up on them for all domains that they serve.
func expectTLSA(f *Facts, o *Options) []dns.Question {
	if !o.DANE || f.Nexthop.Host {
		return nil
	}
	var questions []dns.Question
	for _, h := range f.Hosts[:min(len(f.Hosts), FirstHosts)] {
		own := f.MX.signed() && (h.Name == f.Nexthop.Name || strings.HasSuffix(h.Name, "."+f.Nexthop.Name))
		if (own || h.Signed) && prefix.ValidHost(h.Name) {
			questions = append(questions, dane.TLSAQuestion(h.Name, f.Nexthop.Port))
		}
	}
	return questions
}

// expectAddresses returns the questions for the addresses of the first hosts.
func expectAddresses(f *Facts) []dns.Question {
	questions := make([]dns.Question, 0, 2*FirstHosts)
	for _, h := range f.Hosts[:min(len(f.Hosts), FirstHosts)] {
		if name := h.Name; prefix.ValidHost(name) {
			questions = append(questions, dns.Question{Name: name, Type: dns.TypeA},
				dns.Question{Name: name, Type: dns.TypeAAAA})
		}
	}
	return questions
}
