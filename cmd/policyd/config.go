package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
)

func newConfig(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show the settings",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(c), newConfigShow(c), newConfigSample())
	return cmd
}

// checked is what `policyd config check --json` shows of settings without a mistake.
type checked struct {
	Settings  string   `json:"settings"`
	Found     bool     `json:"found"`
	Overrides int      `json:"overrides"`
	Warnings  []string `json:"warnings"`
}

func newConfigCheck(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings file and the files it names",
		Long: `Check the settings file, the overrides file and the CA file.

Exit status: 0 if all is well, 2 if not: then each mistake is shown with its line
and what to write instead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := settings.Load(c.config)
			if err != nil {
				return failed(err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return failed(json.NewEncoder(out).Encode(checked{l.Path, l.Found, l.Rules.Len(), append([]string{}, l.Warnings...)}))
			}
			if l.Found {
				_, err = fmt.Fprintf(out, "%s: ok\n", l.Path)
			} else {
				_, err = fmt.Fprintf(out, "%s: ok, there is no such file and the defaults are in force\n", l.Path)
			}
			if err == nil && l.Rules != nil {
				_, err = fmt.Fprintf(out, "%s: ok, overrides: %d\n", l.Overrides, l.Rules.Len())
			}
			for _, w := range l.Warnings {
				if err == nil {
					_, err = fmt.Fprintf(out, "warning: %s\n", w)
				}
			}
			return failed(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func newConfigShow(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show all settings, with the defaults of those that are not set",
		Long: `Show all settings as policyd understands them: those of the settings file and the
defaults of all others. The output is a settings file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := settings.Load(c.config)
			if err != nil {
				return failed(err)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return failed(e.Encode(l.Settings))
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), l.TOML())
			return failed(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// newConfigSample makes packaging/policyd.toml.
func newConfigSample() *cobra.Command {
	return &cobra.Command{
		Use:    "sample",
		Short:  "Print a settings file with every setting, explained",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), settings.Sample())
			return failed(err)
		},
	}
}
