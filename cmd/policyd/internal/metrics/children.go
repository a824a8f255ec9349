package metrics

import (
	"maps"
	"sync"
	"sync/atomic"
)

// children are the members of a metric vector by their labels. To find one again takes no lock, no hash of label
// values and no memory.
type children[K comparable, C any] struct {
	resolve func(K) C
	other   K
	known   atomic.Pointer[map[K]C] // replaced, not changed

	mu sync.Mutex // of those who replace it
}

// maxChildren is far above what the fixed sets of values can make; beyond it everything counts as other.
const maxChildren = 256

func newChildren[K comparable, C any](resolve func(K) C, other K) *children[K, C] {
	c := &children[K, C]{resolve: resolve, other: other}
	c.known.Store(&map[K]C{})
	return c
}

func (c *children[K, C]) of(k K) C {
	if child, ok := (*c.known.Load())[k]; ok {
		return child
	}
	return c.add(k)
}

func (c *children[K, C]) add(k K) C {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := *c.known.Load()
	if len(known) >= maxChildren-1 { // the last place is for the others
		k = c.other
	}
	if child, ok := known[k]; ok {
		return child
	}
	more := maps.Clone(known)
	more[k] = c.resolve(k)
	c.known.Store(&more)
	return more[k]
}
