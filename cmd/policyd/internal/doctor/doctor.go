// Package doctor examines the sender's side: the resolver, the configuration of Postfix as postconf(1) reports it, and
// the connection between Postfix and policyd. It changes nothing. A finding that could not be tested is never a
// failure. It also makes the configuration that Postfix needs, and the commands that create it. plan.go defines that
// configuration, and the examination compares it with the present one.
package doctor

import (
	"context"
	"errors"
	"slices"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/postfix"
)

// Options determine what is examined, and for which Postfix lines are made.
type Options struct {
	Settings *settings.Loaded
	// Postconf and ConfigDirectory choose a Postfix; "": the one that is installed.
	Postconf, ConfigDirectory string
	Socket                    string   // the admin socket; "": the one in Settings
	User                      int      // the user ID of this process; 0 is root
	Egress                    []string // hosts to connect to, on 25 and on the port of implicit TLS
	ResolvConf, Proc          string   // /etc/resolv.conf and /proc, for Examine
}

// Report is the outcome. Its JSON form is stable: fields are added, never changed or removed.
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
	// Code is stable. Areas lists all of them.
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
	plan     // without Postfix it has only the options and the status of the daemon
	findings []Finding
}

// Examine does everything, within about a minute if nothing answers.
func Examine(ctx context.Context, o Options) Report {
	p, err := newPlan(ctx, o)
	e, r := &exam{plan: p}, Report{}
	if o.Settings.Found {
		r.Settings = o.Settings.Path
	}
	if o.User != 0 {
		e.found("not-root", "root would also examine what this user may not read", "sudo policyd doctor")
	}
	e.checkDaemon()
	servers := e.checkResolver(ctx)
	switch {
	case errors.Is(err, postfix.ErrNotInstalled):
		e.found("postfix-missing", "postconf is neither in PATH nor in /usr/sbin", "apt-get install postfix")
	case err != nil:
		e.found("postfix-unreadable", err.Error(), "postfix check")
	default:
		r.Postfix, r.ConfigDirectory = e.version, e.directory
		e.checkRunning()
		e.checkVersion()
		e.checkResolvConf(servers)
		e.checkMain()
		e.checkTLSRequired()
		e.checkPolicyMaps()
		e.checkTransportMaps()
		e.checkService()
		e.checkRoots()
		e.checkOtherTables(ctx)
		e.checkConnections(ctx)
		e.checkOwn(ctx)
	}
	e.checkMTASTS()
	e.checkEgress(ctx)
	count := map[Severity]int{}
	for _, a := range Areas() {
		for _, f := range e.findings {
			if i := slices.IndexFunc(a.Codes, func(c Code) bool { return c.Name == f.Code }); i >= 0 {
				f.Area, f.Severity = a.Name, a.Codes[i].Severity
				if f.Severity != OK {
					f.Why = a.Codes[i].Why
				}
				count[f.Severity]++
				r.Findings = append(r.Findings, f)
			}
		}
	}
	r.Errors, r.Warnings, r.Untested = count[Error], count[Warning], count[Untested]
	return r
}

// found adds a finding. The code is one of Areas.
func (e *exam) found(code, what string, change ...string) {
	e.findings = append(e.findings, Finding{Code: code, What: what, Change: change})
}
