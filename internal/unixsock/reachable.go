package unixsock

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// Adopt wraps the listener of a unix socket that another process made, such as systemd. The socket that is at its path
// now is treated as its own. Closing the listener does not remove the socket.
func Adopt(l net.Listener) *Listener {
	info, _ := os.Lstat(l.Addr().String()) // Reachable returns the error
	return &Listener{Listener: l, path: l.Addr().String(), info: info}
}

// Reachable returns nil while clients that connect to the path reach this listener, and also if this user may not
// search the directory. The error names the reason otherwise: the socket was removed, or something else is at the path.
func (l *Listener) Reachable() error {
	there, err := os.Lstat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the socket %s was removed", l.path)
	case err == nil && !os.SameFile(there, l.info):
		return fmt.Errorf("%s was replaced by something else", l.path)
	}
	return nil
}
