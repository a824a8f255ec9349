package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// hole is a port that neither accepts nor refuses connections: its backlog is full, so Linux drops every SYN, as a
// packet filter does.
type hole struct {
	fds []int
}

// dig makes a hole at an address and port.
func dig(at netip.AddrPort) (*hole, error) {
	h := &hole{}
	listener, err := h.socket(at)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, h.fail(err)
	}
	if err := unix.Bind(listener, sockaddr(at)); err != nil {
		return nil, h.fail(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		return nil, h.fail(err)
	}
	// A backlog of 0 holds one connection; the others are dropped already, and wait without harm.
	const fill = 3
	for range fill {
		fd, err := h.socket(at)
		if err != nil {
			return nil, err
		}
		if err := unix.Connect(fd, sockaddr(at)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return nil, h.fail(err)
		}
	}
	return h, nil
}

func (h *hole) socket(at netip.AddrPort) (int, error) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, h.fail(err)
	}
	h.fds = append(h.fds, fd)
	return fd, nil
}

func (h *hole) fail(err error) error {
	h.close()
	return fmt.Errorf("a black hole: %w", err)
}

func (h *hole) close() {
	for _, fd := range h.fds {
		_ = unix.Close(fd)
	}
	h.fds = nil
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
}
