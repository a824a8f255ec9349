package socketmap

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Mux passes requests to handlers by map name. The zero Mux has no maps. All methods may be called while
// requests are served.
type Mux struct {
	// IgnoreCase compares map names without regard to case. The zero value compares them exactly.
	IgnoreCase bool
	// Unknown answers requests for unknown maps; nil answers PERM with the list of known maps.
	Unknown Handler

	mu   sync.RWMutex
	maps map[string]Handler
}

// Handle registers h for the map called name, in place of an earlier handler. A nil h removes the map.
func (m *Mux) Handle(name string, h Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.maps == nil {
		m.maps = map[string]Handler{}
	}
	if m.maps[name] = h; h == nil {
		delete(m.maps, name)
	}
}

// Names returns the names of the known maps, sorted.
func (m *Mux) Names() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Sorted(maps.Keys(m.maps))
}

// ServeSocketmap calls the handler of the map.
func (m *Mux) ServeSocketmap(ctx context.Context, req Request) Reply {
	if h := m.find(req.Map); h != nil {
		return h.ServeSocketmap(ctx, req)
	}
	if m.Unknown != nil {
		return m.Unknown.ServeSocketmap(ctx, req)
	}
	name := strconv.QuoteToASCII(req.Map[:min(len(req.Map), 64)]) // so that the list has room in the reason
	return Perm("unknown map " + name + ": use " + strings.Join(m.Names(), ", "))
}

// find returns the handler of a map, or nil.
func (m *Mux) find(name string) Handler {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if h := m.maps[name]; h != nil || !m.IgnoreCase {
		return h
	}
	for known, h := range m.maps {
		if strings.EqualFold(known, name) {
			return h
		}
	}
	return nil
}
