// Command pictures draws the output of `policyd query`, `check` and `doctor` in a terminal as SVG files for the README.
// The output is real: it comes from the end-to-end lab, with a real resolver, Postfix and receivers. It needs root.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/lab"
)

const (
	domain  = "bank.test"
	columns = 88
)

func main() {
	binary := flag.String("policyd", "bin/policyd", "the built `binary`")
	into := flag.String("into", "docs", "the `directory` of the pictures")
	flag.Parse()
	os.Exit(lab.Isolated(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := draw(ctx, *binary, *into); err != nil {
			fmt.Fprintln(os.Stderr, "pictures:", err)
			return 1
		}
		return 0
	}))
}

// draw runs the commands in the lab and writes a picture of each.
func draw(ctx context.Context, binary, into string) (err error) {
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	l, err := lab.New(lab.Options{Policyd: binary, Source: source})
	if err != nil {
		return err
	}
	defer l.Close()
	for _, name := range []string{"smtps-mx1." + domain, "smtps-mx2." + domain} {
		l.Host(lab.Host{Name: name, On25: lab.STARTTLS, On26: lab.Implicit})
	}
	l.MX(domain, "smtps-mx1."+domain, "smtps-mx2."+domain)
	if err := l.Start(ctx); err != nil {
		return err
	}
	if err := l.Policyd.SetPort26(ctx, "probe"); err != nil {
		return err
	}
	for _, args := range [][]string{{"query", domain}, {"check", domain}, {"doctor"}} {
		command := exec.CommandContext(ctx, binary, append([]string{"--config", l.Policyd.Settings()}, args...)...)
		output, err := terminal(command)
		if err != nil {
			return fmt.Errorf("policyd %v: %w", args, err)
		}
		output = strings.ReplaceAll(output, l.Policyd.Settings(), "/etc/policyd/policyd.toml")
		output = strings.ReplaceAll(output, l.Dir, "/run/policyd")
		picture := svg("$ policyd "+strings.Join(args, " "), output)
		if err := os.WriteFile(filepath.Join(into, args[0]+".svg"), []byte(picture), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// terminal runs a command whose output is a terminal, and returns what it writes there.
func terminal(command *exec.Cmd) (string, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = master.Close() }()
	fd := int(master.Fd())
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err == nil {
		err = errors.Join(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
			unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: columns}))
	}
	if err != nil {
		return "", err
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	command.Stdout, command.Stderr = side, side
	command.Env = append(os.Environ(), "TERM=xterm", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	var output bytes.Buffer
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(&output, master) // ends with EIO when the other side is closed
		close(read)
	}()
	err = command.Run()
	_ = side.Close()
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		return "", errors.New("the terminal does not end")
	}
	if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.ExitCode() == 1 { // there are warnings
		err = nil
	}
	return output.String(), err
}
