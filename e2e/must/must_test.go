package must_test

import (
	"errors"
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
		ran = must.Get("begun", nil)
		must.Do(nil, broken)
		ran += " and continued"
	}), broken)
	require.Equal(t, "begun deferred", ran)
	require.NoError(t, must.Catch(func() {}))
	require.PanicsWithValue(t, "another panic", func() { _ = must.Catch(func() { panic("another panic") }) })
}
