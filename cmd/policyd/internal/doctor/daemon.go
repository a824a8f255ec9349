package doctor

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// daemon is the status that the running daemon reports.
type daemon struct {
	running bool
	status  admin.Status
}

// policyd examines the daemon, and reports its warnings and those of the settings.
func (e *exam) policyd(ctx context.Context) {
	for _, p := range e.Mistakes {
		e.found("settings-invalid", p.String(), "policyd config check")
	}
	for _, w := range e.Settings.Warnings {
		if e.Settings.Mode != "report" || !strings.HasPrefix(w, "mode = ") { // a step on the way, not a mistake
			e.found("settings-warning", w)
		}
	}
	socket := e.Socket
	if socket == "" {
		socket = e.Settings.Admin.Socket
	}
	var err error
	if e.daemon, err = askDaemon(ctx, socket); err != nil {
		e.found("daemon-silent", err.Error(), "systemctl status policyd.service policyd.socket")
		return
	}
	st := e.daemon.status
	e.found("daemon-running", "policyd "+st.Version+" is running, mode "+st.Settings.Mode)
	for _, w := range st.Warnings {
		// A warning of the settings is not repeated, and daemon-running has the mode.
		if !strings.HasPrefix(w, "mode = ") && !slices.Contains(e.Settings.Warnings, w) {
			e.found("daemon-warning", w)
		}
	}
}

func askDaemon(ctx context.Context, socket string) (daemon, error) {
	if socket == "" {
		return daemon{}, errors.New("there is no admin socket: admin.socket is empty")
	}
	const longest = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	client := admin.NewClient(socket)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return daemon{}, errors.New(socket + ": " + strings.TrimPrefix(err.Error(), "admin: "))
	}
	return daemon{running: true, status: status}, nil
}

// endpoint is where Postfix finds policyd, as in socketmap:ENDPOINT:NAME.
type endpoint string

func (e endpoint) table(name string) string { return "socketmap:" + string(e) + ":" + name }

// endpoint returns the listener that fits best: one that chrooted processes can reach, otherwise the first.
func (e *exam) endpoint() endpoint {
	queue := ""
	if e.setup != nil {
		queue = e.setup.queue
	}
	return endpointOf(e.listeners(), queue)
}

// listeners returns the addresses that policyd listens on: those that the daemon reports, else those of the settings.
func (e *exam) listeners() []string {
	if reported := e.daemon.status.Connections.Listeners; len(reported) > 0 {
		return reported
	}
	return e.Settings.Server.Listen
}

func endpointOf(listeners []string, queue string) endpoint {
	first := endpoint("")
	for _, l := range listeners {
		path, unix := strings.CutPrefix(l, "unix:")
		if !unix {
			return inet(l)
		}
		if inside, err := filepath.Rel(queue, path); queue != "" && err == nil && filepath.IsLocal(inside) {
			return endpoint("unix:" + inside)
		}
		if first == "" {
			first = endpoint(l)
		}
	}
	if first == "" {
		return "inet:127.0.0.1:2526"
	}
	return first
}

// inet is the endpoint of a TCP listener; one for all addresses is reached over loopback.
func inet(listener string) endpoint {
	host, port, err := net.SplitHostPort(listener)
	if err != nil {
		return endpoint("inet:" + listener)
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return endpoint("inet:" + net.JoinHostPort(host, port))
}
