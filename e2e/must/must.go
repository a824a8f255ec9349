// Package must ends a case of the lab at its first error, as package require does in a test: the cases also run in
// programs, where there is no testing.T. Do and Get are for functions that Catch runs, in its goroutine only.
package must

import "errors"

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
