package policy

import (
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
)

// Need has the facts that a decision lacks.
type Need struct {
	// Required are the facts that a rule depends on. While there are any, the rest of the Decision does not count.
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

// hostsWhere returns the indices of the hosts for which is returns true.
func hostsWhere(hosts []Host, is func(h *Host) bool) HostSet {
	var s HostSet
	for i := range hosts {
		if is(&hosts[i]) {
			s |= 1 << i
		}
	}
	return s
}

// daneUnknown returns the indices of the hosts whose DANE result is not known.
func daneUnknown(hosts []Host) HostSet {
	return hostsWhere(hosts, func(h *Host) bool { return h.DANE.State == dane.Unknown })
}
