// Package must ends a case of the lab at its first error, as package require does in a test: the cases also run in
// programs, where there is no testing.T. Its functions are for those that Catch or Each runs, in its goroutine only.
package must

import (
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// failure is what Do panics with.
type failure struct{ error }

// Do ends the function that Catch runs if there is an error.
func Do(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		panic(failure{err})
	}
}

// Get returns v, or ends the function that Catch runs.
func Get[T any](v T, err error) T {
	Do(err)
	return v
}

// Be ends the function that Catch runs if a condition is false. The other arguments are the error, as for fmt.Errorf.
func Be(condition bool, format string, args ...any) {
	if !condition {
		Do(fmt.Errorf(format, args...))
	}
}

// Catch runs f, and returns the error that ended it.
func Catch(f func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.error
		default:
			panic(p)
		}
	}()
	f()
	return nil
}

// Each runs f for each number below n, some of them at a time, and waits for all.
func Each(n, concurrent int, f func(i int)) {
	var group errgroup.Group
	group.SetLimit(concurrent)
	for i := range n {
		group.Go(func() error { return Catch(func() { f(i) }) })
	}
	Do(group.Wait())
}
