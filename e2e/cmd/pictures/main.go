// Command pictures draws the output of `policyd query`, `check` and `doctor` in a terminal as SVG files for the README.
// The output is real: it comes from the end-to-end lab, with a real resolver, Postfix and receivers. It needs root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/policyd/policyd/e2e/lab"
	"github.com/policyd/policyd/e2e/must"
)

const (
	domain  = "bank.test"
	columns = 88
)

func main() {
	binary := flag.String("policyd", "bin/policyd", "the built `binary`")
	into := flag.String("into", "docs", "the `directory` of the pictures")
	flag.Parse()
	os.Exit(lab.Main("pictures", true, func(ctx context.Context) { draw(ctx, *binary, *into) }))
}

// draw runs the commands in the lab and writes a picture of each.
func draw(ctx context.Context, binary, into string) {
	l := must.Get(lab.New(lab.Options{Policyd: binary, Source: must.Get(os.Getwd())}))
	defer l.Close()
	for _, name := range []string{"smtps-mx1." + domain, "smtps-mx2." + domain} {
		l.Host(lab.Host{Name: name, On25: lab.STARTTLS, On26: lab.Implicit})
	}
	l.MX(domain, "smtps-mx1."+domain, "smtps-mx2."+domain)
	must.Do(l.Start(ctx))
	must.Do(l.Policyd.SetPort26(ctx, "probe"))
	for _, command := range []string{"query " + domain, "check " + domain, "doctor"} {
		output := terminal(ctx, binary+" --config "+l.Policyd.Config+" "+command)
		output = strings.ReplaceAll(output, l.Policyd.Config, "/etc/policyd/policyd.toml")
		output = strings.ReplaceAll(output, l.Dir, "/run/policyd")
		name, _, _ := strings.Cut(command, " ")
		must.Do(os.WriteFile(filepath.Join(into, name+".svg"), []byte(svg("$ policyd "+command, output)), 0o644))
	}
}

// terminal runs a command with a terminal as its output, and returns what the command writes.
func terminal(ctx context.Context, command string) string {
	command = fmt.Sprintf("stty rows 50 cols %d; %s", columns, command)
	run := exec.CommandContext(ctx, "script", "--quiet", "--return", "--command", command, "/dev/null")
	run.Env = append(os.Environ(), "TERM=xterm", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	output, err := run.Output()
	// The exit status is 1 if there are warnings.
	must.Be(err == nil || run.ProcessState.ExitCode() == 1, "%s: %w: %s", command, err, output)
	return string(output)
}
