package lookup

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSlot: the newest are found, each under its own key and settings, and the oldest goes.
func TestSlot(t *testing.T) {
	t.Parallel()
	var s slot
	set, other := &Settings{}, &Settings{}
	found := func(key string, hash uint64) bool { return s.find(hash, call{key: key, set: set}) != nil }
	put := func(i int) { s.put(uint64(i), &memo{key: fmt.Sprint(i), set: set}) }
	for i := 1; i <= ways; i++ {
		require.False(t, found(fmt.Sprint(i), uint64(i)))
		put(i)
	}
	for i := 1; i <= ways; i++ {
		require.True(t, found(fmt.Sprint(i), uint64(i)))
	}
	require.Nil(t, s.find(1, call{key: "1", set: other}), "of other settings")
	require.False(t, found("another key of the same hash", 1))
	put(2) // in its own place
	require.True(t, found("1", 1))
	put(ways + 1)
	require.False(t, found("1", 1), "the oldest")
	for i := 2; i <= ways+1; i++ {
		require.True(t, found(fmt.Sprint(i), uint64(i)))
	}
}
