package policy

import (
	"context"
	"net/netip"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/prefix"
)

// MaxHosts is how many MX hosts of a domain are considered: a hostile domain with 1,500 of them must not cost 3,000
// queries.
const MaxHosts = 32

// Facts is everything that a decision rests on, as far as it is known. With the zero Facts every decision defers.
type Facts struct {
	Nexthop  Nexthop
	Override Override
	MX       MX
	// Hosts are the MX hosts that are considered: by preference, then name, each name once, at most MaxHosts. For a
	// next hop in brackets: that host alone. For an implicit MX: the domain itself, which carries no prefix.
	Hosts []Host
	// Probed is set when the probe verdicts of the smtps- hosts are known.
	Probed bool
	// STS is the domain's MTA-STS policy.
	STS mtasts.Result
	// Relay says whether the next hop is one of Postfix's own relay hosts.
	Relay Relay
	// Promises is what is remembered about the promises of the next hop, on port 25 and for a domain only.
	Promises promises.Memory
	// Receiver says whether this site receives the mail of the domain.
	Receiver Receiver
}

// MX is what is known about the MX RRset.
type MX struct {
	// Status is that of the RRset or of its denial.
	Status dns.Status
	// Err is set when the lookup failed.
	Err error
	// Asked is set when the lookup succeeded.
	Asked bool
	// Null is set for the null MX of RFC 7505.
	Null bool
	// NXDomain is set when the domain securely does not exist.
	NXDomain bool
	// Implicit is set when the domain has no MX RRset and is its own and only MX host (RFC 5321 section 5.1).
	Implicit bool
	// Rest counts the hosts beyond MaxHosts. They count as unprefixed.
	Rest int
	// RestPreference is the preference of the best of them.
	RestPreference uint16
}

// signed reports whether DNSSEC protects the RRset, or its denial.
func (m MX) signed() bool { return m.Status == dns.Secure }

// Host is what is known about one MX host.
type Host struct {
	// Name is as the zone has it, in lower case, not necessarily a host name.
	Name       string
	Preference uint16
	// Class is the promise of the name; None if it is not a valid host name.
	Class prefix.Class
	// Override is the line for the next hop [Name], which a route can lead to.
	Override Override
	// DANE is what DANE says of the host for the port of the next hop, DANE26 the same for the port of implicit TLS,
	// which a route needs in addition.
	DANE, DANE26 dane.Result
	// Probe is the verdict about the port of implicit TLS.
	Probe probe.Verdict
	// Addresses counts the addresses of both families, where Counted is set. Failed lookups count as none.
	Addresses int
	Counted   bool
}

// Relay says whether a next hop is one of Postfix's own relay hosts.
type Relay string

// What is known about a relay host. RelayUnknown, the zero value, has not been asked for.
const (
	RelayUnknown Relay = ""
	RelayOwn     Relay = "own"
	RelayOther   Relay = "other"
)

// Receiver says who receives the mail of a domain. A route for a domain that this site receives would be a mail loop.
type Receiver struct {
	State ReceiverState
	// Why names the list, host or address that shows it, or what failed.
	Why string
}

// ReceiverState is what is known about the receiver.
type ReceiverState string

// The states of a Receiver. Only ReceiverElsewhere allows a route.
const (
	ReceiverUnknown   ReceiverState = ""
	ReceiverHere      ReceiverState = "here"
	ReceiverElsewhere ReceiverState = "elsewhere"
)

// STS finds MTA-STS policies.
type STS interface {
	// Lookup returns the policy of a domain. Where it would have to wait, and must not, it returns mtasts.Unknown with an
	// error that wraps dns.ErrNotCached.
	Lookup(ctx context.Context, domain string, e dns.Effort) mtasts.Result
}

// Probes knows what probes of port 26 have found. It never blocks.
type Probes interface {
	Verdict(host string) probe.Verdict
}

// OwnSite knows what this site receives itself.
type OwnSite interface {
	// Own reports whether mail for domain is received here, and which list says so. After an error nothing is known: no
	// route. With Effort.CacheOnly the error can be dns.ErrNotCached.
	Own(ctx context.Context, domain string, e dns.Effort) (own bool, why string, err error)
	// OwnHost reports whether name is a name of this host.
	OwnHost(name string) bool
	// OwnAddr reports whether a is an address of this host.
	OwnAddr(a netip.Addr) bool
}

// Relays knows which hosts Postfix's own configuration delivers to as [host].
type Relays interface {
	// RelayHost may wait for Postfix's commands, except with Effort.CacheOnly, when it can return dns.ErrNotCached. After
	// another error the host counts as unknown, not as a relay host.
	RelayHost(ctx context.Context, host string, e dns.Effort) (bool, error)
}
