package main

import (
	"runtime"

	"github.com/spf13/cobra"
)

// build is what `policyd version --json` shows.
type build struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

func newVersion(c *common) *cobra.Command {
	return printsJSON(&cobra.Command{
		Use:   "version",
		Short: "Show the version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return show(cmd, build{c.version, runtime.Version()}, func(s *screen, b build) {
				s.linef("policyd %s\ngo: %s", b.Version, b.Go)
			})
		},
	})
}
