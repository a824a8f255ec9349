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
			b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			read, ok := debug.ReadBuildInfo()
			for i := 0; ok && i < len(read.Settings); i++ {
				switch s := read.Settings[i]; s.Key {
				case "vcs.revision":
					b.Commit = s.Value
				case "vcs.modified":
					b.Modified = s.Value == "true"
				}
			}
			return show(cmd, b, func(s *screen, b build) {
				s.linef("policyd %s\ngo:     %s %s", b.Version, b.Go, b.Platform)
				s.linef("commit: %s%s", cmp.Or(b.Commit, "unknown"), either(b.Modified, " (modified)", ""))
			})
		},
	})
}
