// Package doctor examines the sender's side: the resolver, the configuration of Postfix as postconf(1) reports it, and the
// connection between Postfix and policyd. It changes nothing. A finding that could not be tested is never a failure. It also
// makes the configuration that Postfix needs, and the commands that lead to it.
package doctor

import (
	"context"
	"log/slog"
	"slices"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/postfix"
)

// Options say what is examined.
type Options struct {
	Settings *settings.Loaded
	// Mistakes are those in the settings file, if it has any. Settings has the defaults in their place.
	Mistakes []settings.Problem
	// Socket is the admin socket; "": that of Settings.
	Socket string
	// Postconf and ConfigDirectory choose a Postfix; "": the one that is installed.
	Postconf, ConfigDirectory string
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
	codes    map[string]Code
	findings []Finding
	setup    *setup // nil: no Postfix, or its configuration cannot be read
	draft    draft  // what that should be
	daemon   daemon
}

// Examine does everything, within about a minute if nothing answers.
func Examine(ctx context.Context, o Options) Report {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	e := &exam{Options: o, codes: map[string]Code{}}
	for _, c := range Codes() {
		e.codes[c.Name] = c
	}
	r := Report{}
	if o.Settings.Found {
		r.Settings = o.Settings.Path
	}
	e.ordinaryUser()
	e.policyd(ctx)
	servers := e.resolver(ctx)
	if e.readSetup(ctx) {
		r.Postfix, r.ConfigDirectory = e.setup.version.text, e.setup.directory
		e.running()
		e.version()
		e.resolvConf(servers)
		e.level()
		e.tlsRequired()
		e.policyMaps()
		e.unknownMaps()
		e.transportMaps()
		e.service()
		e.roots()
		e.connections(ctx)
		e.own(ctx)
	}
	e.egress(ctx)
	slices.SortStableFunc(e.findings, func(a, b Finding) int {
		return slices.Index(areas(), a.Area) - slices.Index(areas(), b.Area)
	})
	for _, f := range e.findings {
		switch f.Severity {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		case Untested:
			r.Untested++
		case OK, Note:
		}
	}
	r.Findings = e.findings
	return r
}

// found adds a finding. The code is one of Codes.
func (e *exam) found(code, what string, change ...string) {
	c := e.codes[code]
	f := Finding{Code: code, Severity: c.Severity, Area: c.Area, What: what}
	if c.Severity != OK {
		f.Why, f.Change = c.Why, change
	}
	e.findings = append(e.findings, f)
}

// readSetup reads the configuration of Postfix.
func (e *exam) readSetup(ctx context.Context) bool {
	commands, err := postfix.Find(e.Postconf, e.ConfigDirectory)
	if err != nil {
		e.found("postfix-missing", "postconf is neither in PATH nor in /usr/sbin", "apt-get install postfix")
		return false
	}
	if e.setup, err = readSetup(ctx, commands); err != nil {
		e.found("postfix-unreadable", err.Error(), "postfix check")
		return false
	}
	o := LinesOptions{Settings: e.Settings, Postconf: e.Postconf, ConfigDirectory: e.ConfigDirectory}
	e.draft = emptyDraft(o)
	e.draft.from(ctx, e.setup, o)
	e.draft.at(e.listeners(), e.setup.queue)
	return true
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
