package socketmap

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Mux passes requests to handlers by map name, and answers PERM with the list of known maps to an unknown name. The
// zero Mux has no maps. All methods may be called while requests are served.
type Mux struct {
	mu   sync.RWMutex
	maps map[string]Handler
}

// Handle registers h for the map called name, in place of an earlier handler. A nil h removes the map.
func (m *Mux) Handle(name string, h Handler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h == nil {
		delete(m.maps, name)
		return
	}
	if m.maps == nil {
		m.maps = map[string]Handler{}
	}
	m.maps[name] = h
}

// Names returns the names of the known maps, sorted.
func (m *Mux) Names() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Sorted(maps.Keys(m.maps))
}

// ServeSocketmap calls the handler of the map.
func (m *Mux) ServeSocketmap(ctx context.Context, req Request) Reply {
	m.mu.RLock()
	h := m.maps[req.Map]
	m.mu.RUnlock()
	if h != nil {
		return h.ServeSocketmap(ctx, req)
	}
	name := strconv.QuoteToASCII(req.Map[:min(len(req.Map), 64)]) // so that the list has room in the reason
	return Perm("unknown map " + name + ": use " + strings.Join(m.Names(), ", "))
}
