package gather

import (
	"context"
	"time"
)

// validates finds out whether the resolver validates now. A test that does not end in time does not count against it.
func (g *gathering) validates() {
	f := g.facts
	f.Validates = true
	if g.Validates == nil {
		return
	}
	ctx, cancel := context.WithDeadline(g.ctx, g.until)
	defer cancel()
	yes, err := g.Validates(ctx, g.by)
	f.Validates = yes || err != nil
	g.note(time.Time{}, err)
}
