package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// asking is what the commands that ask the running daemon have in common.
type asking struct {
	*common
	socket string
	quiet  bool // no warning about mistakes in the settings
}

// request asks the daemon. args are the arguments of the command.
type request[T any] func(ctx context.Context, client *admin.Client, args []string) (T, error)

// asks completes a command that asks the running daemon: call returns the answer, which is printed as JSON with --json
// and otherwise by text.
func asks[T any](a *asking, cmd *cobra.Command, call request[T], text func(*screen, T)) *cobra.Command {
	if !strings.Contains(cmd.Long, "Exit status:") {
		cmd.Long += "\n\nExit status: 0, 1 the daemon does not run or its socket may not be used, 2 usage or\nsettings."
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.ask(cmd, func(ctx context.Context, client *admin.Client) error {
			answer, err := call(ctx, client, args)
			if err != nil {
				return err
			}
			return show(cmd, answer, text)
		})
	}
	a.socketFlag(cmd)
	return printsJSON(cmd)
}

// shows completes a command that shows the answer of the running daemon to q, which the arguments and flags fill in.
func shows[Q, A any](
	c *common, cmd *cobra.Command, e admin.Endpoint[Q, A], q *Q, text func(*screen, A),
) *cobra.Command {
	return asks(&asking{common: c}, cmd, func(ctx context.Context, client *admin.Client, _ []string) (A, error) {
		return e.Ask(ctx, client, *q)
	}, text)
}

// lists completes a command that lists something of the running daemon: what is the noun.
func lists[T any](
	c *common, cmd *cobra.Command, what string, e admin.Endpoint[admin.Filter, T], f *admin.Filter,
	text func(*screen, T),
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
	return shows(c, cmd, e, f, text)
}

// oneDomain reads the only argument, which is a domain.
func oneDomain(domain *string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) (err error) {
		if err = cobra.ExactArgs(1)(cmd, args); err == nil {
			*domain, err = domainArgument(args[0])
		}
		return err
	}
}

func (a *asking) socketFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.socket, "socket", "", "admin socket of the daemon (default: admin.socket of the settings)")
}

// path returns the admin socket. Mistakes in the settings must not keep the operator from a daemon that is well: they
// are a warning, and a setting with a mistake has its default.
func (a *asking) path(cmd *cobra.Command) (string, error) {
	if a.socket != "" {
		return a.socket, nil
	}
	l, err := a.load(cmd)
	switch {
	case l == nil:
		return "", err
	case l.Admin.Socket == "":
		return "", &exit{exitUsage, errors.New(
			"the daemon has no admin socket: set socket under [admin] and restart it")}
	case err != nil && !a.quiet:
		cmd.PrintErrln("policyd: warning: the settings have mistakes; asking the daemon at " + l.Admin.Socket + "\n" +
			admin.Visible(err.Error()))
	}
	return l.Admin.Socket, nil
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
		err = fmt.Errorf("permission denied at %s: be root or a member of the group of the socket", path)
	case errors.Is(err, admin.ErrUnreadable):
		err = fmt.Errorf("%s: %w", path, err)
	}
	return failed(err)
}
