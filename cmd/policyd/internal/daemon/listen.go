package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/policyd/policyd/internal/unixsock"
)

// listeners are those of the socketmap server.
type listeners struct {
	mu    sync.Mutex
	all   []net.Listener
	ready bool
}

func (ls *listeners) add(l net.Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.all = append(ls.all, l)
}

func (ls *listeners) remove(l net.Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.all = slices.DeleteFunc(ls.all, func(other net.Listener) bool { return other == l })
}

func (ls *listeners) has(l net.Listener) bool { return slices.Contains(ls.list(), l) }

// complete is called when all listeners are open.
func (ls *listeners) complete() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.ready = true
}

// list returns none before all listeners are open.
func (ls *listeners) list() []net.Listener {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.all)
}

// Listening returns the addresses of the socketmap server; nil before all of them are open.
func (d *Daemon) Listening() []string {
	d.listening.mu.Lock()
	ready := d.listening.ready
	d.listening.mu.Unlock()
	if !ready {
		return nil
	}
	addresses := []string{}
	for _, l := range d.listening.list() {
		addresses = append(addresses, addressOf(l))
	}
	return addresses
}

// open opens every listener, or none: a daemon that answers on some of them only would hide the mistake.
func (d *Daemon) open(ctx context.Context) ([]net.Listener, error) {
	if len(d.options.Passed) > 0 {
		return adopt(d.options.Passed), nil
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
			return nil, fmt.Errorf("cannot listen on %s: %w%s", address, err, remedy(address, err))
		}
		open = append(open, listener)
	}
	return open, nil
}

// adopt wraps the unix sockets among listeners from systemd, so that it is noticed when one is no longer reachable.
func adopt(passed []net.Listener) []net.Listener {
	all := slices.Clone(passed)
	for i, l := range all {
		if l.Addr().Network() == "unix" {
			all[i] = unixsock.Adopt(l)
		}
	}
	return all
}

// listenWarnings returns a warning if listeners from systemd replace what the settings file names.
func (d *Daemon) listenWarnings() []string {
	var passed []string
	for _, l := range d.options.Passed {
		passed = append(passed, addressOf(l))
	}
	return d.loaded.Load().UnusedListen(passed)
}

// remedy returns a line on how to find out what is in the way of a listener.
func remedy(address string, err error) string {
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
