package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/policyd/policyd/internal/unixsock"
)

// open opens every listener, or none: a daemon that answers on some of them only would hide the mistake.
func (d *Daemon) open(ctx context.Context) ([]net.Listener, error) {
	if len(d.options.Passed) > 0 {
		return d.options.Passed, nil
	}
	l := d.loaded.Load()
	if len(l.Server.Listen) == 0 {
		return nil, l.Mistake("server.listen", `the list is empty, and systemd has passed no listener: write listen = ["127.0.0.1:2526"] under [server]`)
	}
	var open []net.Listener
	for _, address := range l.Server.Listen {
		listener, err := unixsock.Listen(ctx, address, l.ListenOptions())
		if err != nil {
			for _, o := range open {
				_ = o.Close()
			}
			return nil, fmt.Errorf("cannot listen on %s: %w%s", address, err, whoToAsk(address, err))
		}
		open = append(open, listener)
	}
	return open, nil
}

// whoToAsk says how to find out what is in the way of a listener.
func whoToAsk(address string, err error) string {
	path, unix := strings.CutPrefix(address, "unix:")
	_, port, _ := net.SplitHostPort(address)
	switch {
	case unix && errors.Is(err, syscall.EACCES):
		return "\nthe directory of " + path + " must belong to the user of the service"
	case unix:
		return "\nto see who has it: ss -lxp | grep -F " + path
	case errors.Is(err, syscall.EADDRINUSE):
		return "\nto see who has it: ss -ltnp 'sport = :" + port + "'"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "\nto see the addresses of this host: ip address"
	}
	return ""
}

// addressOf returns the address of a listener as the settings have it.
func addressOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}
