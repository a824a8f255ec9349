package postfix

import (
	"fmt"
	"maps"
	"os"

	"github.com/policyd/policyd/internal/regfile"
)

// stamp is the state of a file before it was read.
type stamp struct {
	path string
	info os.FileInfo // nil: no such file, or no permission
}

func (v *view) note(paths ...string) {
	for _, path := range paths {
		info, _ := os.Stat(path)
		v.files = append(v.files, stamp{path, info})
	}
}

// changed reports whether a file or an address of this machine has changed.
func (v *view) changed() bool {
	for _, f := range v.files {
		info, _ := os.Stat(f.path)
		if (info == nil) != (f.info == nil) {
			return true
		}
		if info != nil && (!os.SameFile(info, f.info) || !info.ModTime().Equal(f.info.ModTime()) || info.Size() != f.info.Size()) {
			return true
		}
	}
	now, err := interfaces()
	return err != nil || !maps.Equal(now, v.interfaces)
}

// maxFile bounds the text of a list or a table.
const maxFile = 16 << 20

// readFile reads a regular file of at most maxFile bytes.
func readFile(path string) (string, error) {
	text, err := regfile.Read(path)
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is too large: keep it in a table", path)
	}
	return string(text), err
}
