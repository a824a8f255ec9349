// Package doctor examines the sender's side: the resolver, the configuration of Postfix as postconf(1) reports it, and
// the connection between Postfix and policyd. It changes nothing. A finding that could not be tested is never a
// failure. It also makes the configuration that Postfix needs, and the commands that lead to it: plan.go says what that
// is, and the examination compares the present configuration with it.
package doctor

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/postfix"
)

// Options say what is examined, and which Postfix lines are made for.
type Options struct {
	Settings *settings.Loaded
	// Postconf and ConfigDirectory choose a Postfix; "": the one that is installed.
	Postconf, ConfigDirectory string
	// Socket is the admin socket; "": that of Settings.
	Socket string

	// Version is the version of Postfix that lines are for; "": the installed one.
	Version string

	// Mistakes are those in the settings file, if it has any. Settings has the defaults in their place.
	Mistakes []settings.Problem
	// ResolvConf is that of the system; "": /etc/resolv.conf.
	ResolvConf string
	// Proc is where the processes are, proc(5); "": /proc.
	Proc string
	// User is the user who runs this; 0 is root.
	User int
	// Egress are hosts to connect to, on 25 and on the port of implicit TLS.
	Egress []string
}

// Report is the outcome. Its JSON form is stable: fields are added, never changed or taken away.
type Report struct {
	// Settings is the settings file; "" means that there is none and the defaults apply.
	Settings string `json:"settings"`
	// Postfix is the version of Postfix, ConfigDirectory where its main.cf is; "" without Postfix.
	Postfix         string `json:"postfix"`
	ConfigDirectory string `json:"config_directory"`
	// Errors, Warnings and Untested count the findings by severity.
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Untested int       `json:"untested"`
	Findings []Finding `json:"findings"`
}

// Finding is one thing that was found.
type Finding struct {
	// Code is stable. Codes lists all of them.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Area     string   `json:"area"`
	// What was found, Why it matters, and Change: the lines to change, or the commands to run.
	What   string   `json:"what"`
	Why    string   `json:"why,omitempty"`
	Change []string `json:"change,omitempty"`
}

// Sound reports whether nothing must be changed.
func (r Report) Sound() bool { return r.Errors == 0 && r.Warnings == 0 }

// exam is an examination in progress.
type exam struct {
	Options
	plan     // of no use where there is no Postfix
	findings []Finding
	daemon   *admin.Status // nil: it does not answer
}

// Examine does everything, within about a minute if nothing answers.
func Examine(ctx context.Context, o Options) Report {
	o.ResolvConf = cmp.Or(o.ResolvConf, "/etc/resolv.conf")
	o.Proc = cmp.Or(o.Proc, "/proc")
	e := &exam{Options: o}
	r := Report{}
	if o.Settings.Found {
		r.Settings = o.Settings.Path
	}
	e.checkUser()
	e.checkDaemon(ctx)
	servers := e.checkResolver(ctx)
	if e.readPostfix(ctx) {
		r.Postfix, r.ConfigDirectory = e.version.text, e.directory
		e.checkRunning()
		e.checkVersion()
		e.checkResolvConf(servers)
		e.checkMain()
		e.checkTLSRequired()
		e.checkPolicyMaps()
		e.checkUnknownMaps()
		e.checkTransportMaps()
		e.checkService()
		e.checkRoots()
		e.checkConnections(ctx)
		e.checkOwn(ctx)
	}
	e.checkEgress(ctx)
	slices.SortStableFunc(e.findings, func(a, b Finding) int {
		return slices.Index(areas(), a.Area) - slices.Index(areas(), b.Area)
	})
	r.Findings = e.findings
	count := func(s Severity) (n int) {
		for _, f := range r.Findings {
			if f.Severity == s {
				n++
			}
		}
		return n
	}
	r.Errors, r.Warnings, r.Untested = count(Error), count(Warning), count(Untested)
	return r
}

// found adds a finding. The code is one of Codes.
func (e *exam) found(code, what string, change ...string) {
	f := Finding{Code: code, What: what}
	for _, c := range Codes() {
		if c.Name != code {
			continue
		}
		f.Severity, f.Area = c.Severity, c.Area
		if c.Severity != OK {
			f.Why, f.Change = c.Why, change
		}
	}
	e.findings = append(e.findings, f)
}

// has reports whether there is a finding with a code.
func (e *exam) has(code string) bool {
	return slices.ContainsFunc(e.findings, func(f Finding) bool { return f.Code == code })
}

// readPostfix reads the configuration of Postfix and compares it with what it should be.
func (e *exam) readPostfix(ctx context.Context) bool {
	commands, err := postfix.Find(e.Postconf, e.ConfigDirectory)
	if err != nil {
		e.found("postfix-missing", "postconf is neither in PATH nor in /usr/sbin", "apt-get install postfix")
		return false
	}
	s, err := readSetup(ctx, commands)
	if err != nil {
		e.found("postfix-unreadable", err.Error(), "postfix check")
		return false
	}
	e.plan = newPlan(ctx, e.Options, s, e.listeners(e.daemon))
	return true
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
