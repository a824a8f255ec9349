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
	"syscall"
	"time"

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

func (a *asking) flags(cmd *cobra.Command) {
	a.socketFlag(cmd)
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
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
			cmd.PrintErrln("policyd: warning: the settings have mistakes; asking the daemon at " + path + "\n" + visible(err.Error()))
		}
	}
	if path == "" {
		return "", &exit{exitUsage, errors.New("the daemon has no admin socket: set socket under [admin] and restart it")}
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
	const timeout = 90 * time.Second
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	client := admin.NewClient(path)
	defer client.Close()
	err = f(ctx, client)
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		err = fmt.Errorf(`no daemon answers at %s: start it with "systemctl start policyd" or "policyd serve", or name its socket with --socket`, path)
	case errors.Is(err, admin.ErrForbidden):
		err = fmt.Errorf("permission denied at %s: be root or a member of the %s", path, groupOf(path))
	case errors.Is(err, admin.ErrUnreadable):
		err = fmt.Errorf("%s is not the admin socket of a policyd, or the daemon closed the connection: %w", path, err)
	}
	if own, ok := errors.AsType[*exit](err); ok {
		return own
	}
	return failed(err)
}

// encode writes v as one line of JSON.
func encode[T any](cmd *cobra.Command, v T) error {
	return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
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
