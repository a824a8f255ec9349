package policy

import "github.com/policyd/policyd/prefix"

// allHostsFailed defers, because no host could be looked up. A host in brackets without a prefix that Postfix's own
// configuration names gets no policy instead: if only /etc/hosts has it, deferring would stop all mail of this site.
func allHostsFailed(f *Facts, d *Decision, failed string) bool {
	local := f.Nexthop.Host && prefix.Of(f.Nexthop.Name) == prefix.None
	switch {
	case local && !f.Known.Relay:
		return d.lacks(Need{Required: FactSet{Relay: true}})
	case local && f.Relay:
		return d.none(ReasonOwnRelay, failed, "["+f.Nexthop.Name+
			"] is a relay host in Postfix's own configuration and carries no prefix, so there is no policy")
	}
	return d.defers(ReasonDANEFailed, failed)
}
