package must_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/must"
)

func TestTheFirstErrorEndsTheFunction(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	ran := ""
	require.ErrorIs(t, must.Catch(func() {
		defer func() { ran += " deferred" }()
		must.Do(nil, nil)
		must.Be(true, "the condition holds")
		ran = must.Get("begun", nil)
		must.Do(nil, broken)
		ran += " and continued"
	}), broken)
	require.Equal(t, "begun deferred", ran)
	require.NoError(t, must.Catch(func() {}))
	require.EqualError(t, must.Catch(func() { must.Be(1 == 2, "%d is not %d", 1, 2) }), "1 is not 2")
	require.PanicsWithValue(t, "another panic", func() { _ = must.Catch(func() { panic("another panic") }) })
}

func TestEachRunsAllAndReturnsAnError(t *testing.T) {
	t.Parallel()
	var sum atomic.Int64
	err := must.Catch(func() {
		must.Each(10, 3, func(i int) {
			sum.Add(int64(i))
			must.Be(i != 4, "four")
		})
	})
	require.EqualError(t, err, "four")
	require.EqualValues(t, 45, sum.Load())
}
