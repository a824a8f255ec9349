package statedb_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/statedb"
	"github.com/policyd/policyd/internal/testkit"
)

// records are texts, which are their encodings. The text "malformed" is refused, and the least text is the oldest.
type records map[string]string

// open returns a table in a state directory, with some records in addition to those on disk.
func open(dir string, more records) *statedb.Table[string] {
	return openLogging(dir, more, slog.New(slog.DiscardHandler))
}

func openLogging(dir string, more records, log *slog.Logger) *statedb.Table[string] {
	t := statedb.New(statedb.Options[string]{
		Dir: dir, Name: "test.db", Bucket: "test-1", Log: log, Max: 20_000,
		LastUse: func(text string) int64 { return int64(text[0]) },
		Encode:  func(text string) []byte { return []byte(text) },
		Decode: func(_ string, value []byte) (string, error) {
			if string(value) == "malformed" {
				return "", errors.New("malformed")
			}
			return string(value), nil
		},
	})
	for name, text := range more {
		t.Put(name, text)
	}
	return t
}

// onDisk returns the records in a state directory that nothing has open.
func onDisk(t *testing.T, dir string) records {
	t.Helper()
	table := open(dir, nil)
	require.NoError(t, table.Close())
	return table.Records
}

func TestTheDiskFollowsTheMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(dir, records{"a": "1", "b": "1"})
	f.Put("b", "2")
	f.Records["c"] = "1"
	f.Mark("c")
	f.Save()
	require.True(t, f.Delete("a"))
	require.False(t, f.Delete("a"))
	f.Records["unmarked"] = "1"
	require.NoError(t, f.Close())
	require.Equal(t, records{"b": "2", "c": "1"}, onDisk(t, dir))
}

// A change of many records takes several transactions, and all of it reaches the disk.
func TestALargeChangeReachesTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(dir, nil)
	for i := range 10_001 {
		f.Put(fmt.Sprint(i), "1")
	}
	f.Save()
	for i := range 5000 {
		f.Delete(fmt.Sprint(2 * i))
	}
	require.NoError(t, f.Close())
	require.Len(t, f.Records, 5001)
	require.EqualValues(t, f.Records, onDisk(t, dir))
}

// After a fault everything is written again: what changed or was removed without a usable disk is not marked any more.
func TestADiskThatReturnsIsMadeToAgree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := open(dir, records{"kept": "1", "changed": "1", "removed": "1"})
	f.Save()
	require.NoError(t, f.Break())
	f.Put("changed", "2")
	f.Save()
	require.False(t, f.IsOpen())
	f.Put("new", "1")
	f.Delete("removed")
	f.Save()
	f.Sync()
	require.True(t, f.IsOpen())
	require.NoError(t, f.Close())
	f.Sync()
	require.False(t, f.IsOpen(), "closed for good")
	require.Equal(t, records{"kept": "1", "changed": "2", "new": "1"}, onDisk(t, dir))
}

func TestAMalformedRecordLeavesTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, open(dir, records{"bad": "malformed", "good": "1"}).Close())
	require.Equal(t, records{"good": "1"}, onDisk(t, dir))
	require.Equal(t, records{"good": "1"}, onDisk(t, dir))
}

// A record that was stored while the disk could not be used is newer than the one there.
func TestARecordInMemoryIsNewerThanTheOneOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, open(dir, records{"old": "1", "good": "1"}).Close())
	file := filepath.Join(dir, "test.db")
	require.NoError(t, os.Rename(file, file+".away"))
	require.NoError(t, os.Mkdir(file, 0o700))
	f := open(dir, records{"old": "2"})
	require.False(t, f.IsOpen())
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Rename(file+".away", file))
	require.NoError(t, f.Close())
	require.EqualValues(t, records{"old": "2", "good": "1"}, f.Records)
	require.EqualValues(t, f.Records, onDisk(t, dir))
}

// A corrupt file that cannot be renamed is reported once, however often the table tries to open it.
func TestACorruptFileThatCannotBeRenamedIsReportedOnce(t *testing.T) {
	t.Parallel()
	dir, j := t.TempDir(), &testkit.Log{}
	file := filepath.Join(dir, "test.db")
	require.NoError(t, os.WriteFile(file, []byte("not a database"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(file+".corrupt", "in the way"), 0o700))
	f := openLogging(dir, records{"a": "1"}, j.Logger())
	for range 5 {
		f.Sync()
	}
	require.False(t, f.IsOpen())
	require.Equal(t, 1, j.Count("level="), j)
	require.NoError(t, os.RemoveAll(file+".corrupt"))
	f.Sync()
	require.True(t, f.IsOpen())
	require.Equal(t, 1, j.Count("renamed it and started again"))
	require.NoError(t, f.Close())
	require.Equal(t, records{"a": "1"}, onDisk(t, dir))
}

// A corrupt read-only file does not cost one descriptor per attempt to open it.
func TestACorruptFileThatCanOnlyBeReadIsClosedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "test.db")
	f := open(dir, nil)
	for i := range 1000 {
		f.Put(fmt.Sprint(i), strings.Repeat("1", 100))
	}
	require.NoError(t, f.Close())

	content, err := os.ReadFile(file)
	require.NoError(t, err)
	const meta = 8192 // octets of the two pages that are read when a file is opened
	copy(content[meta:], bytes.Repeat([]byte{0xa5}, len(content)-meta))
	require.NoError(t, os.WriteFile(file, content, 0o600))
	f = statedb.New(statedb.Options[string]{
		Dir: dir, Name: "test.db", Bucket: "test-1", Log: slog.New(slog.DiscardHandler), Max: 20_000,
		LastUse: func(string) int64 { return 0 },
		Encode:  func(text string) []byte { return []byte(text) },
		Decode:  func(_ string, value []byte) (string, error) { return string(value), nil },
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if flag&os.O_RDWR != 0 {
				return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EROFS}
			}
			return os.OpenFile(name, flag, mode)
		},
	})
	for range 5 {
		f.Sync()
	}
	require.False(t, f.IsOpen())
	var left []string
	descriptors, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, d := range descriptors {
		if target, _ := os.Readlink("/proc/self/fd/" + d.Name()); target == file {
			left = append(left, d.Name())
		}
	}
	require.Empty(t, left)
}

// Where there is no room, the oldest records leave the memory and the disk, also when they are read.
func TestTheOldestRecordsMakeRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bounded := func(limit int) *statedb.Table[string] {
		return statedb.New(statedb.Options[string]{
			Dir: dir, Name: "test.db", Bucket: "test-1", Log: slog.New(slog.DiscardHandler), Max: limit,
			Weight:  func(text string) int { return len(text) },
			LastUse: func(text string) int64 { return int64(text[0]) },
			Encode:  func(text string) []byte { return []byte(text) },
			Decode:  func(_ string, value []byte) (string, error) { return string(value), nil },
		})
	}
	f := bounded(4)
	for name, text := range map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"} {
		require.Zero(t, f.Put(name, text))
	}
	require.EqualValues(t, 2, f.Put("e", "00"), "two others")
	require.EqualValues(t, records{"c": "3", "d": "4", "e": "00"}, f.Records)
	require.EqualValues(t, 1, f.Put("c", "33"))
	require.EqualValues(t, records{"c": "33", "d": "4"}, f.Records)
	require.NoError(t, f.Close())
	require.EqualValues(t, f.Records, onDisk(t, dir))
	f = bounded(1)
	require.NoError(t, f.Close())
	require.Len(t, f.Records, 1)
	require.EqualValues(t, f.Records, onDisk(t, dir))
}

func TestWithoutAStateDirectoryNothingIsKept(t *testing.T) {
	t.Parallel()
	f := open("", records{"a": "1"})
	f.Save()
	f.Sync()
	require.False(t, f.IsOpen())
	require.NoError(t, f.Close())
}
