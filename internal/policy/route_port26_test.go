package policy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dane"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/prefix"
)

// The key that Postfix asks for after following a route is decided by the TLSA records of port 26 and by none of those
// of port 25: RFC 7672 section 2.2 applies to the port that is connected to.
func TestTheKeyAfterARouteIsDecidedByTheRecordsOfPort26(t *testing.T) {
	t.Parallel()
	o := Options{Mode: ModeEnforce, DANE: true, Port26Mode: PortAlways, Port26: 26, Transport: "smtps26"}
	f := Facts{
		Nexthop: Nexthop{Name: "example.com", Port: prefix.SMTPPort},
		Known:   FactSet{MX: true, Receiver: true},
		MX:      MX{Status: dns.Secure},
		Hosts: []Host{{
			Name: "smtps-mx.example.com", Class: prefix.SMTPS,
			DANE: dane.Result{State: dane.Absent}, DANE26: dane.Result{State: dane.Usable},
		}},
	}
	for _, next := range []Nexthop{{Name: "example.com", Port: 26}, {Name: "smtps-mx.example.com", Host: true, Port: 26}} {
		d := Decide(factsAt(&f, next), o)
		require.Empty(t, d.Need.Required, next)
		require.Equal(t, LevelDANEOnly, d.TLS.Level, next)
	}
	require.Equal(t, dane.Absent, f.Hosts[0].DANE.State, "the facts of port 25 are as before")
}
