package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what `policyd version --json` shows.
type build struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	// Commit is "" where the program was built outside its repository.
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"`
	Platform string `json:"platform"`
}

func newVersion() *cobra.Command {
	return printsJSON(&cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vcs := map[string]string{}
			if read, ok := debug.ReadBuildInfo(); ok {
				for _, s := range read.Settings {
					vcs[s.Key] = s.Value
				}
			}
			b := build{
				version, runtime.Version(), vcs["vcs.revision"], vcs["vcs.modified"] == "true",
				runtime.GOOS + "/" + runtime.GOARCH,
			}
			return show(cmd, b, func(s *screen, b build) {
				s.linef("policyd %s\ngo:     %s %s", b.Version, b.Go, b.Platform)
				s.linef("commit: %s%s", cmp.Or(b.Commit, "unknown"), either(b.Modified, " (modified)", ""))
			})
		},
	})
}
