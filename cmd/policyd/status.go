package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
)

func newStatus(c *common) *cobra.Command {
	return showCommand(c, &cobra.Command{
		Use:   "status",
		Short: "Show the state of the running daemon",
		Long: `Show the version of the running daemon, its settings, the resolver and its self-test, counters of
lookups, DNS queries and connections, the cache, MTA-STS policies, probes, the last reload, and warnings.

Exit status: 0 the daemon is running, 1 it is not, or you have no access to its socket, 2 usage or settings.`,
	}, admin.GetStatus, &struct{}{}, (*screen).status)
}

func newReload(c *common) *cobra.Command {
	return askCommand(c, &cobra.Command{
		Use:   "reload",
		Short: "Make the running daemon read its settings again",
		Long: `Make the running daemon read its settings and overrides again, as SIGHUP does, and report the result. If
they have a mistake, the daemon keeps the previous settings. The daemon reads the file that it was started with.
--config serves only to find its admin socket; if the daemon does not read that file, the command checks the file.

Exit status: 0 the new settings are in effect, 1 the daemon is not running, or you have no access to its socket, 2
usage, or the new settings have a mistake.`,
		PreRun: func(*cobra.Command, []string) { c.quiet = true }, // the daemon returns the mistakes
	}, func(cmd *cobra.Command, socket string, _ []string) (status.Reload, error) {
		r, err := admin.DoReload.Ask(cmd.Context(), socket, struct{}{})
		if refused, ok := errors.AsType[*admin.RefusedError](err); ok &&
			refused.Code == http.StatusUnprocessableEntity {
			err = &exit{exitUsage, fmt.Errorf("reload failed; keeping the previous settings:\n%w", refused)}
		}
		if err == nil && c.config != "" {
			err = c.readByDaemon(cmd, socket)
		}
		return r, err
	}, func(s *screen, r status.Reload) {
		for _, key := range r.Restart {
			s.notef("warning: %s takes effect after a restart only", key)
		}
		s.linef("reloaded: the new settings are in effect")
	})
}

func newLogLevel(c *common) *cobra.Command {
	return askCommand(c, &cobra.Command{
		Use:   "log-level [debug|info|warn|error]",
		Short: "Show or change the log level of the running daemon",
		Long: `Show the log level of the running daemon, or change it immediately. A reload or a restart sets it to
log.level of the settings again.`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"debug", "info", "warn", "error"},
	}, func(cmd *cobra.Command, socket string, args []string) (admin.Level, error) {
		if len(args) == 0 {
			return admin.GetLevel.Ask(cmd.Context(), socket, struct{}{})
		}
		return admin.SetLevel.Ask(cmd.Context(), socket, admin.Level{Level: args[0]})
	}, func(s *screen, l admin.Level) { s.linef("%s", l.Level) })
}
