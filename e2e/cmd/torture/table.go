package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// table is the page of the results.
func table(ctx context.Context, c config, results []result) string {
	version, err := exec.CommandContext(ctx, c.policyd, "version").Output()
	if err != nil {
		version = []byte("version unknown")
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(version)), "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "# Faults\n\nWritten by `make torture`: %s, %s/%s, %s. In every case the process must not crash, no lookup may get a weaker\n"+
		"answer than the facts allow, the best answers must be back within seconds of the end of the fault, and where the log\nnames the cause it does so a few times and not by the thousand.\n\n",
		first, runtime.GOOS, runtime.GOARCH, runtime.Version())
	b.WriteString("| fault | what must hold | result |\n|---|---|---|\n")
	for _, r := range results {
		found := "held: " + r.found
		switch {
		case r.leftOut:
			found = "left out: needs root"
		case r.err != nil:
			found, _, _ = strings.Cut(r.err.Error(), "\n")
			found = "BROKEN: " + found
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(r.fault), cell(r.holds), cell(found))
	}
	return b.String()
}

// cell is a text as it can be in a table.
func cell(s string) string {
	return strings.NewReplacer("\n", "; ", "|", "\\|").Replace(strings.TrimSpace(s))
}
