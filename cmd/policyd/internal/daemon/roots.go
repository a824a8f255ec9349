package daemon

import (
	"context"
	"time"

	"github.com/policyd/policyd/internal/oncelog"
	"github.com/policyd/policyd/internal/roots"
)

// rootsInterval is how often the files with the root certificates are compared.
const rootsInterval = 2 * time.Second

// watchRoots reads the root certificates again when their files change, until ctx ends.
func (d *Daemon) watchRoots(ctx context.Context) error {
	var failures oncelog.Limiter
	return every(ctx, rootsInterval, func() error {
		changed := false
		if !Await(ctx, func() { changed = d.loaded.Load().Roots.Changed() }) || !changed {
			return ctx.Err()
		}
		if err := d.reloadRoots(); err != nil {
			if times, due := failures.Due(); due {
				d.log.Warn("root certificates changed and cannot be used; keeping the previous ones", "times", times,
					"err", err)
			}
		}
		return nil
	})
}

// reloadRoots applies the root certificates as they are on disk now. Without any, the previous ones stay: an update of
// the files may be in progress.
func (d *Daemon) reloadRoots() error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	next := *d.loaded.Load()
	set, err := roots.Load(next.TLS.CAFile)
	if err != nil {
		return err
	}
	if set.Empty {
		return roots.ErrNone
	}
	next.Roots = set
	if err := d.configure(&next); err != nil {
		return err
	}
	d.log.Info("root certificates changed and were read again")
	return nil
}
