// Package policy decides what Postfix is told about a next hop: the TLS policy
// of smtp_tls_policy_maps and the port-26 route of transport_maps.
//
// It works in two steps. Engine.Gather does all the I/O and puts what it found
// into one value, Facts. Decide and Route are pure functions from Facts and
// Options to a Decision; the rule behind any answer is in decide.go or
// route.go, and the table tests beside them are the specification.
package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/policyd/policyd/socketmap"
)

// Mode says what is done with the decisions.
type Mode uint8

// The modes: answer them; decide, log and count but answer NOTFOUND; or answer
// NOTFOUND without looking.
const (
	ModeEnforce Mode = iota
	ModeReport
	ModeOff
)

func modes() []string { return []string{"enforce", "report", "off"} }

// String returns the mode as it is written in the settings.
func (m Mode) String() string { return wordOf(modes(), int(m)) }

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes enforce, report or off.
func (m *Mode) UnmarshalText(b []byte) error {
	i, err := indexOf(modes(), string(b))
	*m = Mode(i)
	return err
}

// Treatment says whether a promise that is weaker than it might be counts.
type Treatment uint8

// The treatments of an unsigned or a mixed MX RRset: the promise is honoured, or
// the set is taken as one without a promise.
const (
	Honour Treatment = iota
	Ignore
)

func treatments() []string { return []string{"secure", "ignore"} }

// String returns the treatment as it is written in the settings.
func (t Treatment) String() string { return wordOf(treatments(), int(t)) }

// MarshalText implements encoding.TextMarshaler.
func (t Treatment) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes secure or ignore.
func (t *Treatment) UnmarshalText(b []byte) error {
	i, err := indexOf(treatments(), string(b))
	*t = Treatment(i)
	return err
}

// PortMode says when port 26 is used.
type PortMode uint8

// The port modes: never; for hosts that a probe found open; for every smtps- host.
const (
	PortOff PortMode = iota
	PortProbe
	PortAlways
)

func portModes() []string { return []string{"off", "probe", "always"} }

// String returns the port mode as it is written in the settings.
func (m PortMode) String() string { return wordOf(portModes(), int(m)) }

// MarshalText implements encoding.TextMarshaler.
func (m PortMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes off, probe or always.
func (m *PortMode) UnmarshalText(b []byte) error {
	i, err := indexOf(portModes(), string(b))
	*m = PortMode(i)
	return err
}

func wordOf(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return "?"
}

func indexOf(words []string, word string) (int, error) {
	i := slices.Index(words, word)
	if i < 0 {
		return 0, fmt.Errorf("%q is none of %s", word, strings.Join(words, ", "))
	}
	return i, nil
}

// Options are the settings that a decision depends on.
type Options struct {
	Mode       Mode
	UnsignedMX Treatment
	MixedMX    Treatment
	DANE       bool
	MTASTS     bool
	Port26     Port26Options
}

// Port26Options are the settings of the port-26 route.
type Port26Options struct {
	Mode PortMode
	// Port is the port of implicit TLS, 26 unless set otherwise.
	Port uint16
	// Transport is the master.cf service that speaks implicit TLS.
	Transport string
}

// Level is what a TLS policy asks for, as far as policyd itself makes it.
type Level uint8

// The levels, by postconf(5), smtp_tls_security_level. LevelNone is no policy.
const (
	LevelNone Level = iota
	LevelDANE
	LevelSecure
	LevelDANEOnly
)

// String returns the level as postconf(5) has it, "" for none.
func (l Level) String() string { return wordOf([]string{"", "dane", "secure", "dane-only"}, int(l)) }

// Source is the mechanism that decided.
type Source uint8

// The sources of a decision, in no order.
const (
	SourceNone Source = iota
	SourceOverride
	SourceDANE
	SourcePrefix
	SourceMTASTS
)

// String returns the source as `policyd query --json` shows it.
func (s Source) String() string {
	return wordOf([]string{"none", "override", "dane", "prefix", "mta-sts"}, int(s))
}

// Decision is what is answered, and why. The zero Decision answers TEMP.
type Decision struct {
	// Reply is what Postfix gets.
	Reply socketmap.Reply
	// Would is what Postfix would get if the mode were enforce; it differs from
	// Reply in ModeReport only.
	Would socketmap.Reply
	// TLSRPT is what is appended to the text of an OK for tls-policy-tlsrpt: the attributes of a genuine
	// MTA-STS policy, with a space in front, or "".
	TLSRPT string
	// Level is what Would asks for, LevelNone if it is no policy of our own
	// making.
	Level  Level
	Source Source
	// Reason tells decisions apart for metrics.
	Reason Reason
	// Unsigned is set when the policy comes from an MX RRset that DNSSEC does
	// not protect.
	Unsigned bool
	// Conflict is set when the MTA-STS policy allows none of the prefixed hosts.
	Conflict bool
	// Why explains the decision to people, a sentence an element; filled by the
	// lines that decide.
	Why []string
}

// Class says in a word what Would is: the level, "literal" for the text of an override, "none" or "temp".
func (d *Decision) Class() string {
	switch {
	case d.Would.Status == socketmap.StatusNotFound:
		return "none"
	case d.Would.Status != socketmap.StatusOK:
		return "temp"
	case d.Level == LevelNone:
		return "literal"
	}
	return d.Level.String()
}

func (d *Decision) because(why string) { d.Why = append(d.Why, why) }

// none answers that there is no policy.
func (d *Decision) none(r Reason) { d.Reply, d.Reason = socketmap.NotFound(), r }

// temp defers: what must be known is not.
func (d *Decision) temp(r Reason, text string) {
	d.Reply, d.Reason = socketmap.Temp(text), r
	d.because(text)
}
