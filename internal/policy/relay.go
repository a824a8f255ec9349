package policy

import "github.com/policyd/policyd/prefix"

// ownRelay answers that there is no policy for a host in brackets that could not be looked up, if Postfix's own
// configuration names it and it carries no prefix. It may be known to /etc/hosts only: deferring would stop all mail of
// this site.
func ownRelay(f *Facts, d *Decision, failed string) bool {
	switch local := f.Nexthop.Host && prefix.Of(f.Nexthop.Name) == prefix.None; {
	case local && !f.Known.Relay:
		return d.lacks(Need{Required: FactSet{Relay: true}})
	case local && f.Relay:
		return d.none(ReasonOwnRelay, failed, "["+f.Nexthop.Name+
			"] is a relay host in Postfix's own configuration and carries no prefix, so there is no policy")
	}
	return false
}
