package unixsock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openDirectory opens the directory of a socket, and never a symbolic link to one.
func openDirectory(path string) (*os.Root, error) {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	named, _ := os.Lstat(path)
	info, err := dir.Stat(".")
	if err == nil && !os.SameFile(info, named) {
		err = fmt.Errorf("%s is a symbolic link: write the path of the directory itself", path)
	}
	if err == nil {
		err = refuse(info, os.Geteuid())
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// refuse returns an error if the process is root and another user can write to the directory: that user could remove
// or replace the socket at any time.
func refuse(dir fs.FileInfo, euid int) error {
	const writableByOthers = 0o022
	st, ok := dir.Sys().(*syscall.Stat_t)
	if euid != 0 || ok && st.Uid == 0 && dir.Mode()&writableByOthers == 0 {
		return nil
	}
	return errors.New("another user can write to this directory, so root does not make a socket in it: " +
		"use a directory that belongs to root with mode 0755, or run policyd as the owner")
}
