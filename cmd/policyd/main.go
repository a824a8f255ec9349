// A distribution builds without go.mod. Without this line, Go then uses the defaults of Go 1.20: weaker TLS, and no
// methods in the paths of the admin socket.

//go:debug default=go1.26

// Command policyd answers the lookups of Postfix for TLS policies, see policyd(8).
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/text"
)

// version is set by the linker, see the Makefile. Without it, the version of the module is used, which can be a commit.
var version string

// The exit statuses.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2 // usage or settings
	exitNoAnswer = 3 // query and check: the lookup or the test failed, or its result could not be written
)

// exit is an error with its own exit status. A nil err means that the message has been printed already.
type exit struct {
	status int
	err    error
}

func (e *exit) Error() string { return fmt.Sprintf("exit status %d: %v", e.status, e.err) }

func (e *exit) Unwrap() error { return e.err }

// common has the flags that commands share: --config and, for those that ask the running daemon, --socket.
type common struct {
	config, socket, version string
	quiet                   bool // no warning about mistakes in the settings
}

func main() { os.Exit(run()) }

func run() int {
	// The first SIGTERM starts an orderly shutdown, which a second one does not cut short. SIGKILL does.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	cmd, err := root.ExecuteContextC(ctx)
	return complain(root.ErrOrStderr(), cmd, err)
}

func newRoot() *cobra.Command {
	c := &common{version: cmp.Or(version, "devel")}
	if built, ok := debug.ReadBuildInfo(); ok && version == "" {
		c.version = cmp.Or(strings.Trim(built.Main.Version, "()"), c.version) // "(devel)" is without a version too
	}
	root := group("policyd", "TLS policies for Postfix from the names of MX hosts, DANE and MTA-STS",
		newServe(c), newQuery(c), newCheck(c), newStatus(c), newReport(c), newCache(c), newReload(c), newLogLevel(c),
		newConfig(c), newPostfixConfig(c), newDoctor(c), newPromises(c), newWarm(c), newFleet(), newVersion(c))
	root.SilenceErrors, root.SilenceUsage = true, true
	only := root.Flags().Bool("version", false, "show the version") // cobra would add -v, the --verbose of check
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *only {
			return show(cmd, c.version, func(s *screen, version string) { s.linef("policyd %s", version) })
		}
		return cmd.Help()
	}
	root.SetHelpFunc(help)
	root.InitDefaultCompletionCmd()
	completion, _, _ := root.Find([]string{"completion"})
	completion.RunE = showHelp // without it, cobra accepts any word as a shell
	root.PersistentFlags().StringVar(&c.config, "config", "", "settings file (default "+settings.DefaultPath+")")
	withExitStatus(root)
	root.InitDefaultHelpCmd()
	helper, _, _ := root.Find([]string{"help"})
	helper.Args = func(_ *cobra.Command, args []string) error {
		found, rest, _ := root.Find(args)
		return cobra.NoArgs(found, rest)
	}
	root.PersistentPreRunE = noneEmpty
	return root
}

// noneEmpty refuses a flag without a value, such as one whose value is a variable that is not set.
func noneEmpty(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		_, use := pflag.UnquoteUsage(f)
		if f.Value.String() == text.Either(f.Value.Type() == "stringSlice", "[]", "") {
			err = fmt.Errorf("--%s is empty: leave it out, or give a value: %s", f.Name, use)
		}
	})
	return err
}

// withExitStatus gives errors of a command and of its subcommands exit status 1, unless they have their own. An error
// that occurs before the command runs is about the command line.
func withExitStatus(cmd *cobra.Command) {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if _, own := errors.AsType[*exit](err); own || err == nil {
			return err
		}
		return &exit{exitFailed, err}
	}
	for _, below := range cmd.Commands() {
		withExitStatus(below)
	}
}

// help shows the help of a command in 80 columns. Indented paragraphs are not wrapped.
func help(cmd *cobra.Command, _ []string) {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(cmp.Or(cmd.Long, cmd.Short), "\n\n") {
		if strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t") { // cobra uses tabs
			b.WriteString(paragraph + "\n")
		} else {
			text.Wrap(&b, "", paragraph)
		}
		b.WriteString("\n")
	}
	// A template of cobra would make the program 7 MB larger: text/template calls methods by name, so that the linker
	// has to keep every exported method.
	local, global := cmd.LocalFlags(), cmd.InheritedFlags()
	narrow := strings.NewReplacer(local.FlagUsages(), local.FlagUsagesWrapped(80),
		global.FlagUsages(), global.FlagUsagesWrapped(80))
	_, _ = fmt.Fprint(cmd.OutOrStdout(), b.String()+narrow.Replace(cmd.UsageString()))
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// group returns a command that only has others below it. Those take no arguments unless they have Args: without this,
// cobra would accept any.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: showHelp}
	for _, below := range commands {
		if below.Args == nil {
			below.Args = cobra.NoArgs
		}
	}
	cmd.AddCommand(commands...)
	return cmd
}

// complain prints err, if it has a message, and returns the exit status. An error that is neither a *settings.Error nor
// an *exit comes from the command line parser.
func complain(w io.Writer, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	if bad, ok := errors.AsType[*settings.Error](err); ok {
		_, _ = fmt.Fprintln(w, admin.Visible(bad.Error())) // it begins with the file
		return exitUsage
	}
	if e, ok := errors.AsType[*exit](err); ok {
		if e.err != nil {
			_, _ = fmt.Fprintln(w, "policyd: "+admin.Visible(e.err.Error()))
		}
		return e.status
	}
	message := strings.ReplaceAll(usageMistake(cmd, strings.TrimSpace(err.Error())), "\n", "\npolicyd: ")
	_, _ = fmt.Fprintf(w, "policyd: %s\nSee \"%s --help\".\n", admin.Visible(message), cmd.CommandPath())
	return exitUsage
}

// build is what `policyd version --json` shows.
type build struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

func newVersion(c *common) *cobra.Command {
	return withJSONFlag(&cobra.Command{
		Use:   "version",
		Short: "Show the version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, build{c.version, runtime.Version()}, func(s *screen, b build) {
				s.linef("policyd %s\ngo: %s", b.Version, b.Go)
			})
		},
	})
}
