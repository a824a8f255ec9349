package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// retry is the pause before a listener is opened again.
const retry = time.Second

// opening has an open listener, or the reason why it is not open; at first neither.
type opening struct {
	net.Listener
	err error
}

// failed stores the reason why the listener is not open, and logs it if it is a new one.
func (o *listener) failed(err error) {
	if before := o.now.Load().err; before == nil || before.Error() != err.Error() {
		o.log.Warn("cannot listen; trying again", "setting", o.setting, "listener", o.address, "err", err, "hint",
			hint(err))
	}
	o.now.Store(&opening{err: err})
}

// run serves until ctx ends or the server is shut down. A listener that was open for longer than retry is opened again
// without a pause: mail waits until the socket is there again.
func (o *listener) run(ctx context.Context) error {
	err := every(ctx, retry, func() error {
		l, err := o.listen(ctx)
		if err == nil {
			err = o.serve(ctx, l)
			switch {
			case errors.Is(err, socketmap.ErrServerClosed), ctx.Err() != nil:
				return err
			case o.passed == nil && errors.Is(err, ErrLostSocket):
				o.now.Store(&opening{err: err})
				return nil
			case o.postfix:
				return fmt.Errorf("the listener at %s failed: %w", o.address, err)
			}
		}
		o.failed(err)
		return nil
	})
	if errors.Is(err, socketmap.ErrServerClosed) {
		return nil // the other parts continue until the last lookup is answered
	}
	return err
}
