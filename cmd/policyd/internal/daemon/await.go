package daemon

import "context"

// Await calls f and reports whether it ended before ctx. Otherwise f continues by itself: a system call on a file
// system that does not answer cannot be interrupted.
func Await(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
