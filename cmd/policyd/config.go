package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

func newConfig(c *common) *cobra.Command {
	return group("config", "Check and show the settings", newConfigCheck(c), newConfigShow(c), newConfigSample())
}

// load reads the settings: of --config, where "-" is standard input, or of the default file.
func (c *common) load(cmd *cobra.Command) (*settings.Loaded, error) {
	if c.config == "-" || c.config == "/dev/stdin" {
		return settings.Read("standard input", cmd.InOrStdin())
	}
	return settings.Load(c.config)
}

// checked is what `policyd config check --json` shows.
type checked struct {
	// Settings is the settings file, and Found whether it exists.
	Settings string `json:"settings"`
	Found    bool   `json:"found"`
	// Overrides counts the rules in the overrides file.
	Overrides int       `json:"overrides"`
	Warnings  []string  `json:"warnings"`
	Errors    []mistake `json:"errors"`
}

// mistake is one error in the settings or in a file that they name.
type mistake struct {
	File string `json:"file"`
	// Line is 0 where the error concerns the whole file.
	Line int    `json:"line"`
	Text string `json:"text"`
}

func newConfigCheck(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [FILE|-]",
		Short: "Check the settings file and the files it names",
		Long: `Check the settings file, the overrides file and the CA file. FILE is checked in
place of the settings file; "-" is standard input, as in

  policyd config show | policyd config check -

Every mistake is printed on a separate line, with the file, the line number, the name
of the setting and a correction.

Exit status: 0 no mistake, 2 at least one.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				c.config = args[0]
			}
			l, err := c.load(cmd)
			if err == nil {
				l.Warnings = append(l.Warnings, l.UnusedListen(systemdListeners(cmd.Context()))...)
			}
			bad, invalid := errors.AsType[*settings.Error](err)
			switch {
			case asJSON && (err == nil || invalid):
			case err != nil:
				return failed(err)
			default:
				return output(cmd, false, l, checkedText)
			}
			result := checked{Warnings: []string{}, Errors: []mistake{}}
			if invalid {
				result.Settings, result.Found = bad.Path, bad.Found
				for _, p := range bad.Problems {
					result.Errors = append(result.Errors, mistake{p.File, p.Line, p.Text})
				}
			} else {
				result.Settings, result.Found, result.Overrides = l.Path, l.Found, len(l.Rules)
				result.Warnings = append(result.Warnings, l.Warnings...)
			}
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(result); err != nil {
				return failed(err)
			}
			if invalid {
				return statusOnly(exitUsage)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkedText(l *settings.Loaded) string {
	lines := []string{l.Path + ": ok"}
	if !l.Found {
		lines[0] += "; the file does not exist, so the defaults apply"
	}
	if l.Rules != nil {
		lines = append(lines, fmt.Sprintf("%s: ok, rules: %d", l.Overrides, len(l.Rules)))
	}
	for _, w := range l.Warnings {
		lines = append(lines, "warning: "+w)
	}
	return textOf(lines)
}

func newConfigShow(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show all settings that apply, including defaults",
		Long: `Show the effective settings: those of the settings file, and the defaults of all
others. The output is a settings file that "policyd config check -" accepts.

Exit status: 0, 2 the settings have a mistake.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.load(cmd)
			if err != nil {
				return failed(err)
			}
			return output(cmd, asJSON, l.Settings, settings.Settings.TOML)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// newConfigSample prints docs/examples/policyd.toml.
func newConfigSample() *cobra.Command {
	return &cobra.Command{
		Use:    "sample",
		Short:  "Print the annotated settings file",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), settings.Sample())
			return failed(err)
		},
	}
}
