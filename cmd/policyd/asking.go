package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

// asking is what the commands that ask the running daemon have in common.
type asking struct {
	*common
	socket string
	json   bool
	quiet  bool // no warning about mistakes in the settings
}

// request asks the daemon. args are the arguments of the command.
type request[T any] func(ctx context.Context, client *admin.Client, args []string) (T, error)

// asks completes a command that asks the running daemon: call returns the answer, which is printed as JSON with --json
// and otherwise by show.
func asks[T any](a *asking, cmd *cobra.Command, call request[T], show func(*screen, T)) *cobra.Command {
	if !strings.Contains(cmd.Long, "Exit status:") {
		cmd.Long += `

Exit status: 0, 1 the daemon does not run or its socket may not be used, 2 usage or
settings.`
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
			answer, err := call(ctx, client, args)
			switch {
			case err != nil:
				return err
			case a.json:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
			}
			s := screenFor(cmd, "")
			show(s, answer)
			return s.print(cmd)
		})
	}
	a.socketFlag(cmd)
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}

// lists completes a command that lists something of the running daemon: what is the noun.
func lists[T any](
	a *asking, cmd *cobra.Command, what string, f *admin.Filter, call request[T], show func(*screen, T),
) *cobra.Command {
	cmd.Args = cobra.NoArgs
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if f.Limit < 1 || f.Limit > admin.MaxList {
			return fmt.Errorf("--limit must be from 1 to %d", admin.MaxList)
		}
		return nil
	}
	const usual = 1000
	cmd.Flags().StringVar(&f.Match, "match", "",
		"only names that contain this `text`, or match it as a pattern if it contains *, ? or [")
	cmd.Flags().IntVar(&f.Limit, "limit", usual, "at most this `number` of "+what)
	return asks(a, cmd, call, show)
}

// oneDomain checks that the only argument is a domain. The daemon brings it into its one form.
func oneDomain(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	_, err := domainArgument(args[0])
	return err
}

func (a *asking) socketFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.socket, "socket", "", "admin socket of the daemon (default: admin.socket of the settings)")
	_ = cmd.MarkFlagFilename("socket") // fails for a flag that does not exist only
}

// path returns the admin socket. Mistakes in the settings must not keep the operator from a daemon that is well: they
// are a warning, and a setting with a mistake has its default.
func (a *asking) path(cmd *cobra.Command) (string, error) {
	if a.socket != "" {
		return a.socket, nil
	}
	l, err := a.load(cmd)
	path := ""
	if l != nil {
		path = l.Admin.Socket
	}
	if err != nil {
		if path == "" {
			path = settings.Default().Admin.Socket
		}
		if !a.quiet {
			cmd.PrintErrln("policyd: warning: the settings have mistakes; asking the daemon at " + path + "\n" +
				admin.Visible(err.Error()))
		}
	}
	if path == "" {
		return "", &exit{exitUsage, errors.New(
			"the daemon has no admin socket: set socket under [admin] and restart it")}
	}
	return path, nil
}

// ask calls f with a client of the daemon. If the daemon cannot be asked, the exit status is 1, or 2 if the settings
// switch the admin socket off.
func (a *asking) ask(cmd *cobra.Command, f func(context.Context, *admin.Client) error) error {
	path, err := a.path(cmd)
	if err != nil {
		return err
	}
	client := admin.NewClient(path)
	defer client.Close()
	err = f(cmd.Context(), client)
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		err = fmt.Errorf(
			`no daemon answers at %s: start it with "systemctl start policyd" or "policyd serve", or name its `+
				`socket with --socket`, path)
	case errors.Is(err, admin.ErrForbidden):
		err = fmt.Errorf("permission denied at %s: be root or a member of the %s", path, groupOf(path))
	case errors.Is(err, admin.ErrUnreadable):
		cause := strings.TrimPrefix(err.Error(), admin.ErrUnreadable.Error()+": ")
		err = fmt.Errorf("%s is not the admin socket of policyd, or the daemon closed the connection: %s", path, cause)
	}
	if own, ok := errors.AsType[*exit](err); ok {
		return own
	}
	return failed(err)
}

// groupOf returns the group that may use a socket, or that of the directory where the socket cannot be seen.
func groupOf(path string) string {
	what, err := os.Lstat(path)
	if err != nil {
		if what, err = os.Lstat(filepath.Dir(path)); err != nil {
			return "group of the socket"
		}
	}
	st, ok := what.Sys().(*syscall.Stat_t)
	if !ok {
		return "group of the socket"
	}
	gid := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(gid); err == nil {
		return "group " + g.Name
	}
	return "group " + gid
}
