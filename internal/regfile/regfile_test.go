package regfile

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReadsRegularFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	require.NoError(t, os.Symlink("file", dir+"/link"))
	for _, path := range []string{file, dir + "/link"} {
		content, err := Read(path)
		require.NoError(t, err)
		require.Equal(t, "content", string(content))
	}
	_, err := Read(dir + "/none")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadsNothingElse(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o600))
	require.NoError(t, os.Symlink("fifo", dir+"/link"))
	l, err := net.Listen("unix", dir+"/socket")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	for path, want := range map[string]string{
		dir + "/fifo":   "not a regular file: p",
		dir + "/link":   "not a regular file: p",
		dir:             "not a regular file: d",
		dir + "/socket": "not a regular file: S",
		"/dev/zero":     "not a regular file: D",
	} {
		_, err := Read(path)
		require.ErrorIs(t, err, ErrNotRegular, path)
		require.ErrorContains(t, err, want)
		pathError := &fs.PathError{}
		require.ErrorAs(t, err, &pathError)
		require.Equal(t, path, pathError.Path)
	}
}

func TestTheNullDeviceIsAnEmptyFile(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(os.DevNull, link))
	for _, path := range []string{os.DevNull, link} {
		content, err := Read(path)
		require.NoError(t, err)
		require.Empty(t, content)
	}
}

func TestReadsAPipeOfItsOwn(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = w.WriteString("from a pipe")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	content, err := Read(fmt.Sprintf("/dev/fd/%d", r.Fd()))
	require.NoError(t, err)
	require.Equal(t, "from a pipe", string(content))
	require.NoError(t, r.Close())
}

func TestAFileThatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, 1<<40)) // to read it would take minutes
	_, err := Read(path)
	require.ErrorContains(t, err, "larger than 64 MiB")
}

func TestAFileSystemThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		began := time.Now()
		_, err := within(timeout, "file", func(string) ([]byte, error) { <-answer; return nil, nil })
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, timeout, time.Since(began))
		close(answer)
	})
}
