package stsstore

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// gone lets go of a database whose file is not in its place any more, because somebody removed it, its directory or both, or put
// another one there: what is written to it is lost. It opens what is there now, or makes it anew, and reports that it
// did let go.
func (d *disk) gone() bool {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	if d.db == nil || d.closed {
		d.mu.Unlock()
		return false
	}
	now, err := os.Stat(d.path)
	if err == nil && os.SameFile(now, d.file) || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		d.mu.Unlock()
		return false
	}
	_ = guarded(d.db.Close) // its file is nobody's
	d.db = nil
	d.replaced.Store(true)
	err = d.openLocked(laterPatience)
	d.mu.Unlock()
	d.log.Warn("the MTA-STS database was removed or replaced: the policies in memory are written again", "file", d.path)
	if err != nil {
		d.trouble(err)
	}
	return true
}
