package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
)

// askCommand completes a command that sends a request to the running daemon. call sends the request to a socket. With
// --json the answer is printed as JSON, otherwise text prints it. The exit status is 1 if the daemon cannot be reached,
// or 2 if the settings switch the admin socket off.
func askCommand[T any](
	c *common, cmd *cobra.Command, call func(*cobra.Command, string, []string) (T, error), text func(*screen, T),
) *cobra.Command {
	if !strings.Contains(cmd.Long, "Exit status:") {
		cmd.Long += "\n\nExit status: 0, 1 the daemon is not running, or you have no access to its socket, " +
			"2 usage or settings."
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		socket, err := c.daemon(cmd)
		if err != nil {
			return err
		}
		answer, err := call(cmd, socket, args)
		if err != nil {
			return err
		}
		return show(cmd, answer, text)
	}
	c.socketFlag(cmd)
	return withJSONFlag(cmd)
}

// showCommand completes a command that shows the running daemon's answer to q, which arguments and flags fill in.
func showCommand[Q, A any](
	c *common, cmd *cobra.Command, e admin.Endpoint[Q, A], q *Q, text func(*screen, A),
) *cobra.Command {
	return askCommand(c, cmd, func(cmd *cobra.Command, socket string, _ []string) (A, error) {
		return e.Ask(cmd.Context(), socket, *q)
	}, text)
}

// listCommand completes a command that lists entries of the running daemon; what is the noun for them.
func listCommand[T any](
	c *common, cmd *cobra.Command, what string, e admin.Endpoint[admin.Filter, T], f *admin.Filter,
	text func(*screen, T),
) *cobra.Command {
	cmd.PreRunE = func(*cobra.Command, []string) error { return f.Check() }
	cmd.Flags().StringVar(&f.Match, "match", "",
		"only names that contain this `text`, or match it as a pattern if it contains *, ? or [")
	cmd.Flags().IntVar(&f.Limit, "limit", 1000, "at most this `number` of "+what)
	return showCommand(c, cmd, e, f, text)
}

// oneDomain reads the only argument, which is a domain.
func oneDomain(domain *string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) (err error) {
		if err = cobra.ExactArgs(1)(cmd, args); err == nil {
			*domain, err = admin.ParseDomain(args[0])
		}
		return err
	}
}

func (c *common) socketFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.socket, "socket", "", "admin socket of the daemon (default: admin.socket of the settings)")
}

// daemon returns the admin socket of the running daemon. Mistakes in the settings must not keep the operator from a
// healthy daemon: they cause a warning, and a setting with a mistake has its default.
func (c *common) daemon(cmd *cobra.Command) (socket string, err error) {
	if c.socket != "" {
		return c.socket, nil
	}
	l, err := c.load(cmd)
	if l.Admin.Socket == "" {
		return "", &exit{exitUsage, errors.New("the daemon has no admin socket: set socket under [admin] and restart")}
	}
	if err != nil && !c.quiet {
		cmd.PrintErrln("policyd: warning: the settings have mistakes; asking the daemon at " + l.Admin.Socket + "\n" +
			admin.Visible(err.Error()))
	}
	return l.Admin.Socket, nil
}
