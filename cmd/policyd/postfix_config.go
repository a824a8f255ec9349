package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/doctor"
)

func newPostfixConfig(c *common) *cobra.Command {
	var asJSON bool
	var version, instance string
	cmd := &cobra.Command{
		Use:   "postfix-config",
		Short: "Print the lines that Postfix needs",
		Long: `Print the lines for main.cf and master.cf: for the version of Postfix that is
installed, the socket that policyd listens on, and the domains that this site
receives. What smtp_tls_policy_maps and transport_maps have already is kept.
Nothing is changed.

Exit status: 0, 1 if there is no Postfix that could use them, 2 usage or settings.`,
		Example: "  policyd postfix-config\n  policyd postfix-config --postfix-version 3.10",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := c.load(cmd)
			if err != nil {
				return failed(err)
			}
			if err := doctor.CheckVersion(version); err != nil {
				return &exit{exitUsage, err}
			}
			lines, err := doctor.MakeLines(cmd.Context(), doctor.LinesOptions{Settings: loaded, Version: version, ConfigDirectory: instance})
			if err != nil {
				return failed(err)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return failed(e.Encode(lines))
			}
			return failed(writeLines(cmd.OutOrStdout(), lines))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().StringVar(&version, "postfix-version", "", "for this `version` of Postfix (default the one that is installed)")
	cmd.Flags().StringVar(&instance, "postfix-dir", "", "configuration `directory` of Postfix (default Postfix's own)")
	_ = cmd.MarkFlagDirname("postfix-dir") // fails for a flag that does not exist only
	return cmd
}

// writeLines writes one part for each file, in comments what to do with it.
func writeLines(w io.Writer, l doctor.Lines) error {
	var b strings.Builder
	part := func(file, what string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "# %s/%s, %s\n%s\n\n", l.Directory, file, what, strings.Join(lines, "\n"))
		}
	}
	part("main.cf", "for Postfix "+l.Postfix+": at the end", l.Main)
	part("master.cf", "at the end", l.Master)
	part("transport_own", "a file of its own: one line for each domain of this site", l.Own)
	b.WriteString("# then: postfix check && postfix reload && policyd doctor\n")
	_, err := io.WriteString(w, b.String())
	return err
}
