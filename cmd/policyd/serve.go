package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/daemon"
)

func newServe(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Answer Postfix",
		Long: `Answer the lookups of Postfix, at the addresses of the settings or on the listeners
that systemd passes. Runs without a settings file too.

SIGHUP reads settings and overrides again: if anything in them is bad, those of
before stay in force and the log says why. SIGTERM has the lookups that have
begun answered and stops.

Exit status: 0 after SIGTERM, 1 if it cannot run, 2 if the settings are bad.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// From the first moment on, SIGHUP must not end the process, nor a log that nobody reads any more.
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			signal.Ignore(syscall.SIGPIPE)
			// A crash, or the watchdog's SIGABRT, ends the process by a signal. Go's default is exit status 2, which says
			// that the settings are bad, and then nobody would start the service again.
			debug.SetTraceback("crash")
			passed, err := passedListeners()
			if err != nil {
				return failed(err)
			}
			toJournal, _ := journal.StderrIsJournalStream() // an error means no
			d, err := daemon.New(daemon.Options{
				ConfigPath: c.config, Version: version, Stderr: cmd.ErrOrStderr(),
				Journal: toJournal, Passed: passed, Hangup: hangup,
			})
			if err == nil {
				err = d.Run(cmd.Context())
			}
			return failed(err)
		},
	}
}

// passedListeners returns the listeners from systemd.
func passedListeners() ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("listeners from systemd: %w", err)
	}
	for i, l := range passed {
		if l == nil {
			return nil, fmt.Errorf("the socket %d from systemd is no stream socket that listens: write ListenStream= in policyd.socket", i+1)
		}
	}
	return passed, nil
}
