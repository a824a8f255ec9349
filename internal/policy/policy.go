// Package policy decides what Postfix gets for a next hop: the TLS policy of smtp_tls_policy_maps and the port-26
// route of transport_maps.
//
// Decide and Route are pure functions. They take the Facts that are known so far and return a Decision. Its Need lists
// the facts that are still missing. Package gather fetches them and calls again, until nothing is missing. So a rule
// and the facts that it rests on are in one place, and no fact is fetched without a rule that uses it.
//
// The rules are in decide.go, in their order, except those for promises that have vanished (promises.go) and for relay
// hosts (relay.go). evidence.go draws conclusions from the facts. route.go has the rules for routes, expected.go the
// questions that are asked early, survey.go the reasons that operators see, and address_limit.go a warning about hosts
// that Postfix never tries. The table tests are the specification. Only render.go writes what Postfix reads.
package policy

import "github.com/policyd/policyd/internal/promises"

// Mode determines how decisions are used.
type Mode string

// The modes: answer with the decision; decide, log and count but answer NOTFOUND; answer NOTFOUND to everything.
const (
	ModeEnforce Mode = "enforce"
	ModeReport  Mode = "report"
	ModeOff     Mode = "off"
)

// PortMode selects which hosts are reached on the port of implicit TLS. The zero value means none.
type PortMode string

// The port modes: no host; hosts that a probe found open; every smtps- host.
const (
	PortOff    PortMode = "off"
	PortProbe  PortMode = "probe"
	PortAlways PortMode = "always"
)

// Options are the settings that a decision depends on.
type Options struct {
	Mode      Mode
	Overrides Overrides
	// IgnoreUnsigned and IgnoreMixed make an unsigned or a mixed MX RRset count as one without prefixes.
	IgnoreUnsigned, IgnoreMixed bool
	DANE, MTASTS                bool
	OnVanished                  promises.Mode // for vanished promises; the zero value behaves like promises.Alert
	Port26Mode                  PortMode      // the hosts that a route can lead to
	Port26                      uint16        // the port of implicit TLS, 26 unless set otherwise
	Transport                   string        // the master.cf service that uses implicit TLS
}
