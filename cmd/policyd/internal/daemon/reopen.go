package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/policyd/policyd/socketmap"
)

// retryPause is the pause before a listener is opened again.
const retryPause = time.Second

// opening has an open listener, or the reason why it is not open; initially neither.
type opening struct {
	net.Listener
	err error
}

// failed stores the reason why the listener is not open, and logs it if it is a new one.
func (ls *listener) failed(err error) {
	if before := ls.current.Load().err; before == nil || before.Error() != err.Error() {
		ls.log.Warn("cannot listen; trying again", "setting", ls.setting, "listener", ls.address, "err", err, "hint",
			hint(err))
	}
	ls.current.Store(&opening{err: err})
}

// run serves until ctx ends or the server is shut down. A listener that was open for longer than retryPause is opened
// again without a pause: mail waits until the socket is there again.
func (ls *listener) run(ctx context.Context) error {
	err := every(ctx, retryPause, func() error {
		l, err := ls.listen(ctx)
		if err == nil {
			err = ls.serve(ctx, l)
			switch {
			case errors.Is(err, socketmap.ErrServerClosed), ctx.Err() != nil:
				return err
			case ls.passed == nil && errors.Is(err, ErrLostSocket):
				ls.current.Store(&opening{err: err})
				return nil
			case ls.postfix:
				return fmt.Errorf("the listener at %s failed: %w", ls.address, err)
			}
		}
		ls.failed(err)
		return nil
	})
	if errors.Is(err, socketmap.ErrServerClosed) {
		return nil // the other parts continue until the last lookup is answered
	}
	return err
}
