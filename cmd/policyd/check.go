package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/check"
	"github.com/policyd/policyd/internal/check/bulk"
	"github.com/policyd/policyd/internal/check/report"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/postfix"
	"github.com/policyd/policyd/internal/roots"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/prefix"
)

// checkFlags are the flags; those that need no conversion are in check.Options and bulk.Options.
type checkFlags struct {
	check.Options
	bulk      bulk.Options
	stdin     bool
	at        string
	resolvers []string
	skipDone  string
}

func newCheck(c *common) *cobra.Command {
	f := checkFlags{}
	cmd := withJSONFlag(&cobra.Command{
		Use:   "check DOMAIN... | --stdin",
		Short: "Test whether the MX hosts of a domain keep their promises",
		Long: `Look up each DOMAIN, connect to every address of every MX host on port 25, and on port 26 if the name of
the host promises it, and report which promises are kept and what must change. No mail is sent: the dialogue ends after
EHLO within TLS.

With --stdin, print one JSON object per domain to standard output, and the progress and a summary to standard error.
The codes are explained in policyd-check(1).

Exit status: 0 consistent, 1 errors, 2 usage or settings, 3 not testable from here; with several domains the worst of
3, 1, 0.`,
		Example: `  policyd check example.com
  policyd check --at +14d --json example.com
  policyd check --stdin --no-connect --skip-done done.json < list >> done.json`,
		Args: func(cmd *cobra.Command, args []string) error { return f.arguments(cmd, args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			checker, err := newChecker(cmd, c, f)
			if err != nil {
				return err
			}
			if f.stdin {
				return scan(cmd, checker, f)
			}
			return showEach(cmd, len(args), func(i int) (report.Report, error) {
				return checker.Check(cmd.Context(), admin.DomainOf(args[i])), cmd.Context().Err()
			}, func(s *screen, r report.Report) { s.report(&r, f.Verbose) })
		},
	})
	set := cmd.Flags()
	set.BoolVarP(&f.Verbose, "verbose", "v", false, "show the dialogues as well")
	set.BoolVar(&f.NoConnect, "no-connect", false, "only look up; make no connection")
	set.BoolVar(&f.Port25Only, "port25-only", false, "do not test port 26")
	set.BoolVarP(&f.IPv4, "ipv4", "4", false, "connect to IPv4 addresses only")
	set.BoolVarP(&f.IPv6, "ipv6", "6", false, "connect to IPv6 addresses only")
	set.DurationVar(&f.Template.Timeout, "timeout", time.Minute, "time limit for each connection")
	set.StringVar(&f.at, "at", "", "judge certificates as of this time: +14d, +36h, 2027-01-31 or an RFC 3339 time")
	set.StringSliceVar(&f.resolvers, "resolver", nil,
		"DNS server to ask in place of those of the settings; may be repeated")
	set.StringVar(&f.CAFile, "ca-file", "", "PEM file with the roots to trust in place of those of the settings")
	set.BoolVar(&f.stdin, "stdin", false, "read domains from standard input, one per line")
	set.BoolVar(&f.bulk.Unordered, "unordered", false, "with --stdin: write each result when it is ready")
	set.StringVar(&f.skipDone, "skip-done", "", "with --stdin: skip the domains in this earlier output")
	set.IntVar(&f.bulk.Jobs, "jobs", 16,
		"with --stdin: domains checked concurrently; with --no-connect, 256 unless given")
	set.Uint16Var(&f.SMTPPort, "smtp-port", prefix.SMTPPort, "port of STARTTLS, for tests")
	_ = set.MarkHidden("smtp-port") // fails only for an unknown flag
	cmd.MarkFlagsMutuallyExclusive("no-connect", "port25-only")
	cmd.MarkFlagsMutuallyExclusive("ipv4", "ipv6")
	return cmd
}

// arguments checks what the command line parser cannot.
func (f *checkFlags) arguments(cmd *cobra.Command, args []string) error {
	switch {
	case f.stdin && len(args) > 0, !f.stdin && len(args) == 0:
		return errors.New("give either domains or --stdin")
	case f.Template.Timeout <= 0 || f.bulk.Jobs < 1:
		return errors.New("--timeout must be positive, such as 30s, and --jobs at least 1")
	}
	for _, name := range []string{"unordered", "skip-done", "jobs"} {
		if cmd.Flags().Changed(name) && !f.stdin {
			return fmt.Errorf("--%s can be used only with --stdin", name)
		}
	}
	var mistakes []error
	for _, arg := range args {
		if _, ok := policy.ParseName(admin.DomainOf(arg)); !ok {
			mistakes = append(mistakes, fmt.Errorf("%q is not a domain name", admin.DomainOf(arg)))
		}
	}
	var err error
	f.Template.At, err = moment(f.at, time.Now())
	return errors.Join(append(mistakes, err)...)
}

// moment reads --at: an offset from now, a date or a time.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ahead, ok := strings.CutPrefix(text, "+"); ok {
		if d, err := duration(ahead); err == nil && d >= 0 {
			return now.Add(d), nil
		}
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(
		"--at: cannot parse %q as a time: write +14d, +2w, +36h, 2027-01-31 or 2027-01-31T12:00:00Z", text)
}

// duration reads a duration, which may be in days or weeks.
func duration(s string) (time.Duration, error) {
	for unit, days := range map[string]time.Duration{"d": 1, "w": 7} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(number, 10, 13) // 13 bits: this many weeks still fit into a Duration
			return time.Duration(n) * days * 24 * time.Hour, err
		}
	}
	return time.ParseDuration(s)
}

// newChecker makes a checker of the settings and the flags. The error has exit status 2.
func newChecker(cmd *cobra.Command, c *common, f checkFlags) (*check.Checker, error) {
	l, err := c.load(cmd)
	if err != nil {
		return nil, err
	}
	if len(f.resolvers) > 0 {
		l.DNS.Servers = f.resolvers
	}
	if f.CAFile != "" {
		set, err := roots.Load(f.CAFile)
		if err != nil {
			return nil, &exit{exitUsage, fmt.Errorf("--ca-file %s: %w", f.CAFile, err)}
		}
		l.Roots, l.TLS.CAFile = set, f.CAFile
	}
	servers, err := stub.New(l.Stub(nil))
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	servers.SelfTest(cmd.Context())
	client := l.SMTPClient(postfix.New(postfix.Options{}))
	client.OnlyCAFile = f.CAFile != ""
	o := f.Options
	o.Template.Roots, o.Template.Postfix, o.Template.Helo = l.Roots.Pool, client, l.Port26.HeloName
	o.Servers, o.Policy, o.CAFile = servers, l.Lookup().Policy, l.TLS.CAFile
	o.ProxyFromEnvironment = l.MTASTS.ProxyFromEnvironment
	// A domain on the command line was chosen by the user; those in a list may point to any address.
	o.Special, o.Careful = l.Port26.ProbeSpecialAddresses, f.stdin
	return check.New(o), nil
}

// scan checks the domains of standard input.
func scan(cmd *cobra.Command, checker *check.Checker, f checkFlags) error {
	o := f.bulk
	o.Out = cmd.OutOrStdout()
	o.Progress = &bulk.Progress{Out: cmd.ErrOrStderr(), Terminal: terminal(cmd.ErrOrStderr())}
	if f.NoConnect && !cmd.Flags().Changed("jobs") {
		o.Jobs = 256 // such checks only wait for DNS
	}
	if f.skipDone != "" {
		file, err := os.Open(f.skipDone)
		if err == nil {
			defer func() { _ = file.Close() }()
			o.Done, err = bulk.ReadDone(file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &exit{exitUsage, fmt.Errorf("--skip-done: %w", err)}
		}
	}
	summary, err := bulk.Scan(cmd.Context(), checker.Check, cmd.InOrStdin(), o)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted: continue with --skip-done")
	}
	if err = cmp.Or(err, summary.Write(cmd.ErrOrStderr())); err != nil {
		return &exit{exitNoAnswer, err}
	}
	return &exit{status: summary.Exit}
}
