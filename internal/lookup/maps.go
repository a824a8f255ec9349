package lookup

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// mapNames returns the names under which the maps are served, in the order in which they are shown, with the map that
// each stands for. QUERY and QUERYwithTLSRPT are the names of postfix-tlspol, sts is that of Sendmail's FEATURE(sts).
func mapNames() []struct {
	Name string
	id   mapID
} {
	return []struct {
		Name string
		id   mapID
	}{
		{"tls-policy", mapTLSPolicy}, {"tls-policy-tlsrpt", mapTLSRPT}, {"transport", mapTransport},
		{"QUERY", mapTLSPolicy}, {"QUERYwithTLSRPT", mapTLSRPT}, {"sts", mapTLSPolicy},
	}
}

// CanonicalMap returns tls-policy, tls-policy-tlsrpt or transport for a name of that map in any case, and "" for an
// unknown name.
func CanonicalMap(name string) string {
	for _, m := range mapNames() {
		if strings.EqualFold(name, m.Name) {
			return m.id.String()
		}
	}
	return ""
}

// NearestMap returns the known map name that an unknown one was probably meant to be, or "".
func NearestMap(name string) string { return text.Nearest(name, knownMaps()) }

func knownMaps() []string {
	var names []string
	for _, m := range mapNames() {
		names = append(names, m.Name)
	}
	return names
}

// Handler returns the handler of all maps, whose names are compared without regard to case.
func (s *Service) Handler() socketmap.Handler {
	mux := &socketmap.Mux{IgnoreCase: true, Unknown: socketmap.HandlerFunc(s.unknownMap)}
	for _, m := range mapNames() {
		mux.Handle(m.Name, s.handler(m.id))
	}
	return mux
}

// unknownMap answers PERM: Postfix defers the mail and logs the reason, which lists the known names.
func (s *Service) unknownMap(_ context.Context, req socketmap.Request) socketmap.Reply {
	s.counters.unknown.Add(1)
	name := shownMap(req.Map)
	nearest := NearestMap(name)
	if s.unknown.note(name, nearest) {
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
	const longest = 40
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		name = "*" + name[at:]
	}
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return '?'
		}
		return c
	}, name[:min(len(name), 4*longest)])
	return name[:min(len(name), longest)]
}

// UnknownMap is a map name that is not served although a client asks for it: the mail waits.
type UnknownMap struct {
	Name    string
	Nearest string // the known name that was probably meant; "" if none is near
	Times   uint64 // requests since the name was first seen
	Last    time.Time
}

// Bounds of unknownMaps: clients choose the names.
const (
	maxUnknownMaps = 16
	// unknownMapInUse is how long a name counts as in use. Postfix retries deferred mail after 5 minutes at first.
	unknownMapInUse = 10 * time.Minute
)

// unknownMaps are the unknown map names in use. The zero value is ready to use.
type unknownMaps struct {
	mu     sync.Mutex
	byName map[string]*UnknownMap
}

// note counts a request. It reports whether the name must be logged: it was not in use, and there is room for it.
func (u *unknownMaps) note(name, nearest string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire()
	m := u.byName[name]
	isNew := m == nil
	if isNew {
		if len(u.byName) >= maxUnknownMaps {
			return false
		}
		m = &UnknownMap{Name: name, Nearest: nearest}
		if u.byName == nil {
			u.byName = map[string]*UnknownMap{}
		}
		u.byName[name] = m
	}
	m.Times, m.Last = m.Times+1, time.Now()
	return isNew
}

// expire forgets the names that are no longer in use.
func (u *unknownMaps) expire() {
	for name, m := range u.byName {
		if time.Since(m.Last) >= unknownMapInUse {
			delete(u.byName, name)
		}
	}
}

// UnknownMaps returns the unknown map names in use, by name.
func (s *Service) UnknownMaps() []UnknownMap {
	u := &s.unknown
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire()
	names := []UnknownMap{}
	for _, m := range u.byName {
		names = append(names, *m)
	}
	slices.SortFunc(names, func(a, b UnknownMap) int { return cmp.Compare(a.Name, b.Name) })
	return names
}
