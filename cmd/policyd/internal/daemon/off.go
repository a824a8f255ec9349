package daemon

import (
	"context"

	"github.com/policyd/policyd/internal/policy"
)

// off reports whether the mode is "off". Then no DNS query is sent, not even those of the self-test.
func (d *Daemon) off() bool { return d.loaded.Load().PolicyOptions().Mode == policy.ModeOff }

// testResolver tests the resolver periodically until ctx ends, except in mode "off".
func (d *Daemon) testResolver(ctx context.Context) error {
	for {
		off := d.off()
		run, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if !off {
				_ = d.stub.Run(run) // ends with its context, and with its error
			}
		}()
		err := d.whileOff(ctx, off)
		cancel()
		<-ended
		if err != nil {
			return err
		}
	}
}

// whileOff returns when a reload has changed whether the mode is "off". The error is that of ctx.
func (d *Daemon) whileOff(ctx context.Context, off bool) error {
	for d.off() == off {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.turned:
		}
	}
	return nil
}
