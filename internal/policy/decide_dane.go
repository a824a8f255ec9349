package policy

import (
	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/prefix"
	"github.com/policyd/policyd/socketmap"
)

// byDANE has DANE decide where it can, RFC 7672: every MX host that can be reached has TLSA records, or some
// have and no prefix is at stake. A lookup that failed defers: "a sender MUST NOT" take it for a denial
// (section 2.1.2), and no other mechanism overrides it (RFC 8461 section 2).
func byDANE(f Facts, o Options, d *Decision) bool {
	if !o.DANE || len(f.Hosts) == 0 {
		return false
	}
	s := survey(f)
	switch {
	case s.doubt != "":
		d.temp(ReasonDANEFailed, s.doubt)
		return true
	case s.usable+s.unusable == 0:
		d.because("DANE: no MX host that can be reached has secure TLSA records for port " + portText(f.Nexthop.Port))
		return false
	case contested(f, o):
		d.because("DANE: the MX RRset is not signed, and it has hosts that the live MTA-STS policy does not allow")
		return false
	case s.absent > 0 && s.promise:
		// Under "dane" Postfix would treat the host without TLSA as "may": whoever blocks the others and strips
		// this one would break its promise. The set as a whole is no stronger than PKIX anyway.
		d.because("DANE: only some MX hosts have TLSA records, and one without them carries a prefix")
		return false
	case s.hidden && !s.full(f):
		// The same, were Postfix to find the addresses that could not be looked up here. "dane-only" is safe.
		d.because("DANE: the addresses of an MX host that carries a prefix could not be looked up, so it may be without TLSA records")
		return false
	}
	d.dane(f, s)
	return true
}

// byPartialDANE is for the set of which the prefixes do not count, by the settings: DANE for the hosts that
// have it.
func byPartialDANE(f Facts, o Options, d *Decision) bool {
	if !o.DANE || d.Conflict || contested(f, o) {
		return false
	}
	s := survey(f)
	if s.usable+s.unusable == 0 {
		return false
	}
	d.dane(f, s)
	return true
}

// dane fills in the level: "dane-only" where every host must be authenticated and the names of the hosts are,
// "dane" otherwise. An insecure MX RRset is never "dane-only": Postfix would defer for ever.
func (d *Decision) dane(f Facts, s daneSurvey) {
	d.Source = SourceDANE
	port := portText(f.Nexthop.Port)
	switch {
	case s.absent > 0:
		d.because("DANE: some MX hosts have secure TLSA records for port " + port + ": those are held to them")
		d.Reason = ReasonDANEPartial
	case s.unusable > 0:
		d.because("DANE: TLSA records that cannot be used oblige to TLS without authentication (RFC 7672 section 2.2)")
		d.Reason = ReasonDANEUnusable
	case !f.Nexthop.Host && !f.MX.signed():
		d.because("DANE: every MX host that can be reached has secure TLSA records for port " + port + ", but the MX RRset is not signed")
		d.Reason = ReasonDANEInsecureMX
	default:
		d.because("DANE: every MX host that can be reached has secure TLSA records for port " + port)
		d.Level, d.Reason, d.Reply = LevelDANEOnly, ReasonDANEFull, socketmap.OK("dane-only")
		return
	}
	d.Level, d.Reply = LevelDANE, socketmap.OK("dane")
	if !f.Nexthop.Host {
		d.Unsigned = !f.MX.signed()
	}
}

// daneSurvey is what DANE says of a set of hosts.
type daneSurvey struct {
	// usable and unusable count hosts with secure TLSA records, absent those known to have none.
	usable, unusable, absent int
	// promise is set when a host without TLSA records carries a prefix for the port, hidden when that is one of which the
	// addresses could not be looked up.
	promise, hidden bool
	// doubt says what must be known and is not, "" if everything is.
	doubt string
}

// full says that every host that can be reached can be held to its TLSA records, and that the names of the hosts are
// authentic.
func (s daneSurvey) full(f Facts) bool {
	return s.absent == 0 && s.unusable == 0 && (f.Nexthop.Host || f.MX.signed())
}

// survey counts what is known of the hosts. On the port of implicit TLS only smtps- hosts count, where there
// are any: nobody is to connect to the others.
func survey(f Facts) daneSurvey {
	var s daneSurvey
	smtpsOnly := false
	if f.Nexthop.Port != SMTPPort && !f.Nexthop.Host {
		match, _ := promised(f)
		smtpsOnly = len(match) > 0
	}
	for i := range f.Hosts {
		h := &f.Hosts[i]
		if smtpsOnly && h.Class != prefix.SMTPS {
			continue
		}
		switch h.DANE.State {
		case dane.Usable:
			s.usable++
			continue
		case dane.Unusable:
			s.unusable++
			continue
		case dane.Absent:
			s.absent++
		case dane.Unreachable:
			if h.DANE.Err != nil && !excused(f, h) {
				s.doubt = "address lookup for " + text.Name(h.Name) + " failed: " + reason(h.DANE.Err)
			}
			s.hidden = s.hidden || h.DANE.Err != nil && promises(h.Class, f.Nexthop.Port)
		case dane.Failed:
			s.doubt = "TLSA lookup for port " + portText(f.Nexthop.Port) + " of " + text.Name(h.Name) + " failed"
			if h.DANE.Err != nil {
				s.doubt += ": " + reason(h.DANE.Err)
			}
		case dane.Unknown:
			s.doubt = "no facts were gathered about DANE for " + text.Name(h.Name)
		}
		s.promise = s.promise || promises(h.Class, f.Nexthop.Port)
	}
	if f.MX.Rest > 0 && !smtpsOnly {
		s.absent++ // the hosts beyond the bound count as hosts with nothing
	}
	return s
}

// excused says of a host whose addresses could not be looked up that this defers nothing: another host of equal
// or better preference can be reached, so Postfix gets there first.
func excused(f Facts, h *Host) bool {
	for i := range f.Hosts {
		other := &f.Hosts[i]
		if other == h || other.Preference > h.Preference {
			continue
		}
		switch other.DANE.State {
		case dane.Usable, dane.Unusable, dane.Absent:
			return true
		case dane.Unknown, dane.Failed, dane.Unreachable:
		}
	}
	return false
}
