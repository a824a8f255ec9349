package policy

import (
	"slices"
	"time"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/prefix"
)

// MaxHosts is how many MX hosts of a domain are considered: a hostile domain with 1,500 must not cause 3,000 queries.
const MaxHosts = 32

// Facts are the facts for a decision that are known so far. With the zero Facts, Decide defers (except with ModeOff).
type Facts struct {
	Nexthop Nexthop
	MX      MX
	// Hosts are the MX hosts that are considered: by preference, then name, each name once, at most MaxHosts. For a
	// next hop in brackets: that host alone. For an implicit MX: the domain itself, which carries no prefix.
	Hosts []Host
	// Known are the facts that were looked for, whatever was found. A DANE result also needs a State: a host whose
	// State is unknown is looked up.
	Known     FactSet
	STS       mtasts.Result
	Relay     bool             // the next hop is one of Postfix's own relay hosts
	History   promises.History // what the next hop promised before; only for a domain on port 25
	Validates bool             // the resolver has passed its self-test just now
	Receiver  Receiver
	// Expires is when the first of the facts expires, for facts that were read from the caches only; zero means never.
	// A failed lookup counts as expired. No decision depends on Expires.
	Expires time.Time
}

// MX is what is known about the MX RRset.
type MX struct {
	Status         dns.Status // the security status of the RRset or of its denial
	Err            error      // why the lookup failed
	Null           bool       // the RRset is the null MX of RFC 7505
	NXDomain       bool       // the domain securely does not exist
	Implicit       bool       // no MX RRset: the domain is its own and only MX host (RFC 5321 section 5.1)
	Rest           int        // the number of hosts beyond MaxHosts, which count as unprefixed
	RestPreference uint16     // the preference of the best of them
}

// signed reports whether DNSSEC protects the RRset, or its denial.
func (m MX) signed() bool { return m.Status == dns.Secure }

// Host is what is known about one MX host.
type Host struct {
	Name       string // the name in the zone, in lower case, not necessarily a host name
	Preference uint16
	Class      prefix.Class  // the promise of the name; None if it is not a valid host name
	Signed     bool          // its addresses were secure when last looked up; no decision depends on this
	DANE       dane.Result   // DANE for the port of the next hop
	DANE26     dane.Result   // DANE for the port of implicit TLS, which a route also needs
	Probe      probe.Verdict // the verdict about the port of implicit TLS
	Addresses  int           // the number of addresses of both families; failed lookups count as none
}

// Receiver is what is known about who receives a domain's mail. If it is this site, a route would be a mail loop.
type Receiver struct {
	Known bool   // false if that could not be determined
	Here  bool   // this site receives the mail
	Why   string // the list, host or address that shows it, or what failed
}

// NewFacts returns what is known at first about a next hop.
func NewFacts(n Nexthop) *Facts {
	f := &Facts{Nexthop: n}
	if n.Host {
		f.Hosts = []Host{{Name: n.Name, Class: prefix.Of(n.Name)}}
	}
	return f
}

// SetMX fills in the MX RRset, or the error of the lookup. Its hosts arrive sorted by preference and name.
func (f *Facts) SetMX(rrset *dns.RRset, err error) {
	f.Known.MX, f.MX.Err = true, err
	if err != nil {
		return
	}
	// Only a secure NXDOMAIN proves that the domain does not exist. Postfix treats an insecure one as an empty answer
	// too: it delivers to the address of the domain itself.
	f.MX.Status, f.MX.NXDomain = rrset.Status, rrset.NXDomain && rrset.Status == dns.Secure
	switch {
	case f.MX.NXDomain:
		return
	case len(rrset.MX()) == 0:
		f.MX.Implicit = true
		f.Hosts = []Host{{Name: f.Nexthop.Name}}
		return
	case len(rrset.MX()) == 1 && rrset.MX()[0].Host == "":
		f.MX.Null = true
		return
	}
	f.Hosts = make([]Host, 0, min(len(rrset.MX()), MaxHosts))
	for _, mx := range rrset.MX() {
		switch {
		case slices.ContainsFunc(f.Hosts, func(h Host) bool { return h.Name == mx.Host }):
		case len(f.Hosts) < MaxHosts:
			h := Host{Name: mx.Host, Preference: mx.Preference}
			if prefix.ValidHost(mx.Host) { // no other name may reach a reply
				h.Class = prefix.Of(mx.Host)
			}
			f.Hosts = append(f.Hosts, h)
		default:
			if f.MX.Rest == 0 {
				f.MX.RestPreference = mx.Preference
			}
			f.MX.Rest++
		}
	}
}
