//go:build e2e

package packaging_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// load asks without a pause, as Postfix does: over one connection, and once more over a new one when the server has
// closed it without an answer.
type load struct {
	path, want string
	request    socketmap.Request
	answers    atomic.Int64
	cancel     context.CancelFunc
	ended      chan error
}

// startLoad begins to send a request that must be answered with want every time.
func startLoad(t *testing.T, path string, request socketmap.Request, want string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{path: "unix:" + path, want: want, request: request, cancel: cancel, ended: make(chan error, 1)}
	go func() { l.ended <- l.run(ctx) }()
	t.Cleanup(cancel)
	l.goOn(t)
	return l
}

func (l *load) run(ctx context.Context) error {
	var client *socketmap.Client
	for {
		reply, err := socketmap.Reply{}, error(nil)
		for try := range 2 {
			if client == nil {
				if client, err = socketmap.Dial(ctx, l.path); err != nil {
					client = nil
					break // a refused connection is not tried again
				}
			}
			if reply, err = client.Lookup(ctx, l.request); err == nil {
				break
			}
			_ = client.Close()
			client = nil
			err = fmt.Errorf("try %d: %w", try+1, err)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err != nil: // the last one was cut off
			return context.Canceled
		case reply.String() != l.want:
			return fmt.Errorf("the answer is %q", reply.String())
		}
		l.answers.Add(1)
	}
}

// goOn waits for more answers.
func (l *load) goOn(t *testing.T) {
	t.Helper()
	until := l.answers.Load() + 100
	require.Eventually(t, func() bool { return l.answers.Load() >= until || len(l.ended) > 0 }, waitLimit, 10*time.Millisecond)
	if len(l.ended) > 0 {
		require.NoError(t, <-l.ended, "a lookup failed")
	}
}

// stop ends the load: no lookup may have failed.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	require.ErrorIs(t, <-l.ended, context.Canceled)
	t.Logf("%d lookups, none failed", l.answers.Load())
}
