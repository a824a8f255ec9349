package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/daemon"
)

// exitLostSocket makes policyd.service restart policyd.socket.
const exitLostSocket = 75

func newServe(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Answer Postfix",
		Long: `Answer the lookups of Postfix, at the addresses in the settings or on the listeners that systemd passes.
A settings file is optional.

On SIGHUP the daemon reads the settings and overrides again, as "policyd reload" does. If anything in them is wrong, it
keeps the previous settings and logs the reason. On SIGTERM it answers the lookups that have begun, and exits within
drain_timeout plus one second.

Exit status: 0 after SIGTERM, 1 if it cannot run, 2 if the settings are wrong, 75 if a socket of systemd was removed
and policyd.socket must be restarted.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// From the start, neither SIGHUP nor a closed log may end the process.
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			signal.Ignore(syscall.SIGPIPE)
			// A crash, or the watchdog's SIGABRT, ends the process by a signal. Go's default is exit status 2, which
			// stands for wrong settings, and then systemd would not restart the service.
			debug.SetTraceback("crash")
			passed, err := passedListeners()
			if err != nil {
				return err
			}
			toJournal, _ := journal.StderrIsJournalStream() // an error means that it is not the journal
			var d *daemon.Daemon
			if !daemon.Await(cmd.Context(), func() {
				d, err = newDaemon(daemon.Options{
					ConfigPath: c.config, Version: c.version, Stderr: cmd.ErrOrStderr(),
					Journal: toJournal, Passed: passed, Hangup: hangup,
				})
			}) {
				return nil
			}
			if err == nil {
				err = d.Run(cmd.Context())
			}
			if errors.Is(err, daemon.ErrLostSocket) {
				return &exit{exitLostSocket, err}
			}
			return err
		},
	}
}

// passedListeners returns the listeners from systemd, sd_listen_fds(3).
func passedListeners() (passed []net.Listener, err error) {
	const first = 3
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		n = 0
	}
	for i := range n { // before any of them is duplicated, to a number that this loop might reach
		if accepts, _ := syscall.GetsockoptInt(first+i, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); accepts == 0 {
			return nil, fmt.Errorf(
				"socket %d from systemd is not a listening stream socket: write ListenStream= in policyd.socket", i+1)
		}
	}
	for i := range n {
		file := os.NewFile(uintptr(first+i), "")
		l, err := net.FileListener(file)
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("socket %d from systemd: %w", i+1, err)
		}
		passed = append(passed, l)
	}
	return passed, nil
}
