package stub

import "slices"

// An answer is secure only if all of this holds:
//  1. Every server of the list is trusted, because of the settings and its address (trusts).
//  2. The list has passed the self-test: at least one server validates, and none was found not to (SelfTest).
//  3. The server that gave the answer has passed it too, because lookups ask no other server then (candidates).
//  4. The answer has the AD bit (ask).
//
// If 1 or 2 does not hold, lookups ask all servers, and every answer is insecure. Until the first self-test of trusted
// servers has a result, lookups ask none (Lookup).

// TrustMode determines when the AD bit of the servers is trusted.
type TrustMode string

// The trust modes. TrustAuto, also written "", trusts 127.0.0.1 and ::1, and other loopback addresses that are
// written in the settings, but never the addresses of known relays.
const (
	TrustAuto   TrustMode = "auto"
	TrustAlways TrustMode = "always"
	TrustNever  TrustMode = "never"
)

// trusts reports whether the AD bit of the servers is trusted, and if not, why. RFC 4035 section 4.9.3 requires a
// secure channel to a trusted resolver, and a relay on loopback only hides where the resolver is.
func (o *Options) trusts(servers []Server) (yes bool, reason string) {
	if o.Trust == TrustAlways {
		return len(servers) > 0, ""
	}
	if o.Trust != TrustAuto && o.Trust != "" {
		return false, `trust_ad = "never"`
	}
	for _, s := range servers {
		a := s.Addr.Addr().Unmap()
		switch {
		case a.String() == "127.0.0.1", a.String() == "::1":
			continue
		case a.String() == "127.0.0.11":
			reason = "is Docker's relay to a resolver elsewhere, and the way there is not secure"
		case a.String() == "127.0.0.53", a.String() == "127.0.0.54":
			reason = "is systemd-resolved, which does not validate reliably"
		case !a.IsLoopback():
			reason = "is not a resolver on loopback"
		case len(o.Servers) == 0:
			reason = "is neither 127.0.0.1 nor ::1: write it in [dns] servers if a validating resolver is there"
		default:
			continue
		}
		return false, s.String() + " " + reason
	}
	return len(servers) > 0, ""
}

// candidates returns the servers that a lookup may ask, in order: only those that have passed the self-test if the
// result is Validating. Those that did not answer their last query come last.
func (st *state) candidates() []*server {
	servers := st.servers
	if st.Result == Validating {
		servers = st.passed
	}
	var answering, failing []*server
	for _, s := range servers {
		if s.failing.Load() {
			failing = append(failing, s)
		} else {
			answering = append(answering, s)
		}
	}
	return append(answering, failing...)
}

// validates reports whether a server recognises bogus answers, as far as is known.
func (st *state) validates(server *server) bool {
	if st.Result != NotTrusted {
		return slices.Contains(st.passed, server)
	}
	yes, _ := st.options.trusts([]Server{server.Server}) // it has not been tested
	return yes
}
