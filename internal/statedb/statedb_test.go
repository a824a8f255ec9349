package statedb_test

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/statedb"
)

// owner keeps records whose text is their encoding. It refuses the text "malformed".
type owner map[string]string

func (o owner) open(dir string) *statedb.File {
	f := statedb.New(statedb.Options{
		Dir: dir, Name: "test.db", Bucket: "test-1", Log: slog.New(slog.DiscardHandler),
		Names: func() []string { return slices.Collect(maps.Keys(o)) },
		Encode: func(name string) []byte {
			if text, ok := o[name]; ok {
				return []byte(text)
			}
			return nil
		},
		Load: func(name string, value []byte) bool {
			if _, known := o[name]; known || string(value) == "malformed" {
				return false
			}
			o[name] = string(value)
			return true
		},
	})
	f.Open()
	return f
}

// onDisk returns the records in a state directory that nothing has open.
func onDisk(t *testing.T, dir string) owner {
	t.Helper()
	o := owner{}
	require.NoError(t, o.open(dir).Close())
	return o
}

func TestTheDiskFollowsTheMemory(t *testing.T) {
	t.Parallel()
	dir, o := t.TempDir(), owner{"a": "1", "b": "1"}
	f := o.open(dir) // writes what is in memory already
	o["b"], o["c"] = "2", "1"
	f.Mark("b", "c")
	f.Save()
	delete(o, "a")
	f.Mark("a")
	o["unmarked"] = "1"
	require.NoError(t, f.Close())
	require.Equal(t, owner{"b": "2", "c": "1"}, onDisk(t, dir))
}

// A change of many records takes several transactions, and all of it reaches the disk.
func TestALargeChangeReachesTheDisk(t *testing.T) {
	t.Parallel()
	dir, o := t.TempDir(), owner{}
	f := o.open(dir)
	for i := range 10_001 {
		o[fmt.Sprint(i)] = "1"
	}
	f.Mark(slices.Collect(maps.Keys(o))...)
	f.Save()
	for i := range 5000 {
		delete(o, fmt.Sprint(2*i))
		f.Mark(fmt.Sprint(2 * i))
	}
	require.NoError(t, f.Close())
	require.Equal(t, o, onDisk(t, dir))
}

// After a fault everything is written again: what changed or was removed without a usable disk is not marked any more.
func TestADiskThatReturnsIsMadeToAgree(t *testing.T) {
	t.Parallel()
	dir, o := t.TempDir(), owner{"kept": "1", "changed": "1", "removed": "1"}
	f := o.open(dir)
	require.NoError(t, f.Break())
	o["changed"] = "2"
	f.Mark("changed")
	f.Save()
	require.False(t, f.IsOpen())
	o["new"] = "1"
	delete(o, "removed")
	f.Mark("new", "removed")
	f.Save()
	f.Sync()
	require.True(t, f.IsOpen())
	require.NoError(t, f.Close())
	f.Sync()
	require.False(t, f.IsOpen(), "closed for good")
	require.Equal(t, owner{"kept": "1", "changed": "2", "new": "1"}, onDisk(t, dir))
}

func TestARecordThatTheOwnerRefusesLeavesTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, owner{"bad": "malformed", "old": "1", "good": "1"}.open(dir).Close())
	o := owner{"old": "2"} // newer than what is on disk
	require.NoError(t, o.open(dir).Close())
	require.Equal(t, owner{"old": "2", "good": "1"}, o)
	require.Equal(t, o, onDisk(t, dir))
}

func TestWithoutAStateDirectoryNothingIsKept(t *testing.T) {
	t.Parallel()
	f := owner{}.open("")
	f.Mark("a")
	f.Save()
	f.Sync()
	require.False(t, f.IsOpen())
	require.NoError(t, f.Close())
}
