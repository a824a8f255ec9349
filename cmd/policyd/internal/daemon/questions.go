package daemon

import (
	"context"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/socketmap"
)

// deliver first does the same as a lookup by Postfix. The explanation then finds its facts in the cache.
func (d *Daemon) deliver(ctx context.Context, nexthop string) explain.Result {
	d.service.ServeSocketmap(ctx, socketmap.Request{Map: "tls-policy", Key: admin.DomainOf(nexthop)})
	return d.explain(ctx, nexthop)
}
