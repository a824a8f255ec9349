package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

func newConfig(c *common) *cobra.Command {
	return group("config", "Check and show the settings", newConfigCheck(c), newConfigShow(c))
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
	Overrides int                `json:"overrides"`
	Warnings  []string           `json:"warnings"`
	Errors    []settings.Problem `json:"errors"`
}

func newConfigCheck(c *common) *cobra.Command {
	return withJSONFlag(&cobra.Command{
		Use:   "check [FILE|-]",
		Short: "Check the settings file and the files it names",
		Long: `Check the settings file, the overrides file and the CA file. FILE is checked in place of the settings
file; "-" is standard input, as in

  policyd config show | policyd config check -

Every mistake is printed on a separate line, with the file, the line number, the name of the setting and a correction.

Exit status: 0 no mistake, 2 at least one.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				c.config = args[0]
			}
			l, err := c.load(cmd)
			if err != nil && wantsJSON(cmd) {
				err = show(cmd, checked{l.Path, l.Found, 0, []string{}, l.Mistakes}, nil)
				return cmp.Or[error](err, &exit{status: exitUsage})
			}
			if err != nil {
				return err
			}
			warnings := append(l.Warnings, l.UnusedListen(systemdListeners(cmd.Context()))...)
			result := checked{l.Path, l.Found, len(l.Rules), append([]string{}, warnings...), []settings.Problem{}}
			return show(cmd, result, func(s *screen, c checked) {
				s.linef("%s: ok%s", c.Settings, wordsIf(!c.Found, "; the file does not exist, so the defaults apply"))
				if l.Rules != nil {
					s.linef("%s: ok, rules: %d", l.Overrides, c.Overrides)
				}
				for _, w := range c.Warnings {
					s.linef("warning: %s", w)
				}
			})
		},
	})
}

func newConfigShow(c *common) *cobra.Command {
	return withJSONFlag(&cobra.Command{
		Use:   "show",
		Short: "Show all settings that apply, including defaults",
		Long: `Show the effective settings: those of the settings file, and the defaults of all others. The output is a
settings file that "policyd config check -" accepts.

Exit status: 0, 2 the settings have a mistake.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := c.load(cmd)
			if err != nil {
				return err
			}
			return show(cmd, l.Settings, func(s *screen, l settings.Settings) { _, _ = s.WriteString(l.TOML()) })
		},
	})
}
