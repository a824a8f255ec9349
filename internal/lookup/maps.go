package lookup

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// The maps.
const (
	tlsPolicy       = "tls-policy"
	tlsPolicyTLSRPT = "tls-policy-tlsrpt"
	transport       = "transport"
)

// mapNames returns the names under which the maps are served, in the order in which they are shown, each with the map
// that it stands for. QUERY and QUERYwithTLSRPT are the names of postfix-tlspol, sts is that of Sendmail's
// FEATURE(sts).
func mapNames() [6][2]string {
	return [...][2]string{
		{tlsPolicy, tlsPolicy}, {tlsPolicyTLSRPT, tlsPolicyTLSRPT}, {transport, transport},
		{"QUERY", tlsPolicy}, {"QUERYwithTLSRPT", tlsPolicyTLSRPT}, {"sts", tlsPolicy},
	}
}

// CanonicalMap returns tls-policy, tls-policy-tlsrpt or transport for a name of that map in any case, and "" for an
// unknown name.
func CanonicalMap(name string) string {
	for _, m := range mapNames() {
		if strings.EqualFold(name, m[0]) {
			return m[1]
		}
	}
	return ""
}

// NearestMap returns the known map name that an unknown one was probably meant to be, or "".
func NearestMap(name string) string { return text.Nearest(name, knownMaps()) }

func knownMaps() []string {
	var names []string
	for _, m := range mapNames() {
		names = append(names, m[0])
	}
	return names
}

// Handler returns the handler of all maps, whose names are compared without regard to case.
func (s *Service) Handler() socketmap.Handler {
	mux := &socketmap.Mux{IgnoreCase: true, Unknown: socketmap.HandlerFunc(s.unknownMap)}
	for _, m := range mapNames() {
		mux.Handle(m[0], s.handler(m[1]))
	}
	return mux
}

// unknownMap answers PERM: Postfix defers the mail and logs the reason, which lists the known names.
func (s *Service) unknownMap(_ context.Context, req socketmap.Request) socketmap.Reply {
	name := shownMap(req.Map)
	nearest := NearestMap(name)
	if s.noteUnknown(name, nearest) {
		s.log.Warn("unknown map", "map", name, "nearest", nearest, "maps", strings.Join(knownMaps(), ","))
	}
	reason := `unknown map "` + name + `": `
	if nearest != "" {
		reason += "did you mean " + nearest + "? "
	}
	return socketmap.Perm(reason + "known maps: " + strings.Join(knownMaps(), ", "))
}

// shownMap returns a map name that a client has chosen as it may be logged and shown: printable ASCII, at most 40
// bytes, and without the local part if it is an address.
func shownMap(name string) string {
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		name = "*" + name[at:]
	}
	return strings.NewReplacer(`"`, "?", `\`, "?").Replace(text.Line(name, 40))
}

// UnknownMap is a map name that is not served although a client asks for it: the mail waits.
type UnknownMap struct {
	Name    string    `json:"name"`
	Nearest string    `json:"nearest,omitempty"` // the known name that was probably meant; "" if none is near
	Times   uint64    `json:"times"`             // requests since the name was first seen
	Last    time.Time `json:"last"`
}

// Bounds of the unknown maps that are remembered: clients choose the names.
const (
	maxUnknownMaps = 16
	// unknownMapInUse is how long a name counts as in use. Postfix retries deferred mail after 5 minutes at first.
	unknownMapInUse = 10 * time.Minute
)

// noteUnknown counts a request. It reports whether the name must be logged: it was not in use, and there is room for
// it.
func (s *Service) noteUnknown(name, nearest string) bool {
	s.unknowns.Add(1)
	s.unknownMu.Lock()
	defer s.unknownMu.Unlock()
	s.expireUnknown()
	m := s.unknown[name]
	isNew := m == nil && len(s.unknown) < maxUnknownMaps
	if isNew {
		m = &UnknownMap{Name: name, Nearest: nearest}
		s.unknown[name] = m
	}
	if m != nil {
		m.Times, m.Last = m.Times+1, time.Now()
	}
	return isNew
}

// expireUnknown forgets the names that are no longer in use. s.unknownMu is held.
func (s *Service) expireUnknown() {
	maps.DeleteFunc(s.unknown, func(_ string, m *UnknownMap) bool { return time.Since(m.Last) >= unknownMapInUse })
}

// UnknownMaps returns the unknown map names in use, by name.
func (s *Service) UnknownMaps() []UnknownMap {
	s.unknownMu.Lock()
	defer s.unknownMu.Unlock()
	s.expireUnknown()
	names := []UnknownMap{}
	for _, m := range s.unknown {
		names = append(names, *m)
	}
	slices.SortFunc(names, func(a, b UnknownMap) int { return cmp.Compare(a.Name, b.Name) })
	return names
}
