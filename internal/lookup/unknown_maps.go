package lookup

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/text"
	"github.com/policyd/policyd/socketmap"
)

// unknownMap answers PERM: Postfix defers the mail and logs the reason, which lists the known names.
func (s *Service) unknownMap(name string) socketmap.Reply {
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		name = "*" + name[at:] // the local part of an address must not get into the log
	}
	name = strings.NewReplacer(`"`, "?", `\`, "?").Replace(text.Line(name, maxUnknownName))
	var known []string
	for _, m := range mapNames() {
		known = append(known, m[0])
	}
	nearest := text.Nearest(name, known)
	if s.noteUnknown(name, nearest) {
		s.log.Warn("unknown map", "map", name, "nearest", nearest, "maps", strings.Join(known, ","))
	}
	reason := `unknown map "` + name + `": `
	if nearest != "" {
		reason += "did you mean " + nearest + "? "
	}
	return socketmap.Perm(reason + "known maps: " + strings.Join(known, ", "))
}

// UnknownMap is a map name that a client asks for and that is not served: its mail waits.
type UnknownMap struct {
	Name    string    `json:"name"`
	Nearest string    `json:"nearest,omitempty"` // the known name that was probably meant, or ""
	Times   uint64    `json:"times"`             // requests since the name was first seen
	Last    time.Time `json:"last"`
}

// Bounds of the unknown maps that are remembered: clients choose the names.
const (
	maxUnknownMaps = 16
	maxUnknownName = 40 // bytes
	// unknownMapInUse is how long a name counts as in use. Postfix retries deferred mail after 5 minutes at first.
	unknownMapInUse = 10 * time.Minute
)

// noteUnknown counts a request. It reports whether the name must be logged: it was not in use, and there is room.
func (s *Service) noteUnknown(name, nearest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unknowns++
	s.expireUnknown()
	m, known := s.unknown[name]
	if !known && len(s.unknown) >= maxUnknownMaps {
		return false
	}
	s.unknown[name] = UnknownMap{Name: name, Nearest: nearest, Times: m.Times + 1, Last: time.Now()}
	return !known
}

// expireUnknown forgets the names that are no longer in use. s.mu is held.
func (s *Service) expireUnknown() {
	maps.DeleteFunc(s.unknown, func(_ string, m UnknownMap) bool { return time.Since(m.Last) >= unknownMapInUse })
}

// UnknownMaps returns the unknown map names in use, by name.
func (s *Service) UnknownMaps() []UnknownMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireUnknown()
	names := []UnknownMap{}
	for _, name := range slices.Sorted(maps.Keys(s.unknown)) {
		names = append(names, s.unknown[name])
	}
	return names
}
