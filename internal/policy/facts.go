package policy

import (
	"context"
	"net/netip"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/prefix"
)

// MaxHosts is how many MX hosts of a domain are considered: a hostile domain
// with 1,500 of them must not cost 3,000 queries.
const MaxHosts = 32

// Facts is everything a decision rests on, gathered before it. The zero Facts
// leads to TEMP.
type Facts struct {
	Nexthop  Nexthop
	Override Override
	MX       MX
	// Hosts are the MX hosts that are considered: by preference, then name,
	// each name once, at most MaxHosts. For a next hop that is a host: that host alone. For an implicit MX: the
	// domain itself, without a prefix whatever its name.
	Hosts []Host
	// STS is the domain's MTA-STS policy; gathered where DANE does not decide.
	STS mtasts.Result
	// OwnRelay is set for a next hop that is a host, could not be looked up, and is one of Postfix's own relay hosts.
	OwnRelay bool
	// Receiver says whether mail for the domain is received here; gathered for
	// a route only, and only where there would be one.
	Receiver Receiver
}

// MX is what is known about the MX RRset.
type MX struct {
	// Status is that of the RRset or of its denial.
	Status dns.Status
	// Err is set when the lookup failed. The facts are then unknown.
	Err error
	// Asked is set when the lookup succeeded; false for a next hop that is a
	// host, which has no MX RRset.
	Asked bool
	// Null is set for the null MX of RFC 7505.
	Null bool
	// NXDomain is set when the domain does not exist.
	NXDomain bool
	// Implicit is set when the domain has no MX RRset and is its own and only MX host (RFC 5321 section 5.1).
	Implicit bool
	// Rest counts the hosts beyond MaxHosts. They count as unprefixed.
	Rest int
	// RestPreference is the preference of the best of them.
	RestPreference uint16
}

// signed says that DNSSEC protects the RRset, or its denial.
func (m MX) signed() bool { return m.Status == dns.Secure }

// Host is what is known about one MX host.
type Host struct {
	// Name is as the zone has it, in lower case, not necessarily a host name.
	Name       string
	Preference uint16
	// Class is the promise of the name; None if it is no valid host name.
	Class prefix.Class
	// Override is the line for the next hop [Name], which a route can lead to;
	// gathered for a route only.
	Override Override
	// DANE is what DANE says of the host for the port of the next hop. For a route both ports are needed:
	// DANE26 is for the port of implicit TLS, DANE for port 25.
	DANE, DANE26 dane.Result
	// Probe is what is known about the port of implicit TLS; gathered for a route only.
	Probe probe.Verdict
}

// Receiver says who receives the mail of a domain. A route for a domain that
// is received here makes a mail loop.
type Receiver struct {
	State ReceiverState
	// Why names the list, host or address that shows it, or what failed.
	Why string
}

// ReceiverState is what is known about the receiver.
type ReceiverState uint8

// The states of a Receiver. Only ReceiverElsewhere lets a route out.
const (
	ReceiverUnknown ReceiverState = iota
	ReceiverHere
	ReceiverElsewhere
)

// STS finds MTA-STS policies. A view that may not ask returns mtasts.Unknown with an error that wraps
// dns.ErrNotCached where it would have to.
type STS interface {
	Lookup(ctx context.Context, domain string) mtasts.Result
	// Announce begins to ask what a Lookup will need first, and does not wait for it.
	Announce(domain string)
	// Live is the policy that was fetched before and is live, and mtasts.Absent where there is none. It asks and
	// fetches nothing.
	Live(domain string) mtasts.Result
}

// Probes knows what probes of port 26 have found. It never blocks, and reading a verdict causes no probe.
type Probes interface {
	Verdict(host string) probe.Verdict
}

// OwnSite knows what this site receives itself.
type OwnSite interface {
	// Own reports whether mail for domain is received here, and which list says
	// so. After an error nothing is known: no route. A site that may not wait
	// returns dns.ErrNotCached where it would have to ask somebody.
	Own(ctx context.Context, domain string) (own bool, why string, err error)
	// OwnHost reports whether name is a name of this host.
	OwnHost(name string) bool
	// OwnAddr reports whether a is an address of this host.
	OwnAddr(a netip.Addr) bool
}
