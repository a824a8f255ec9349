package settings

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/regfile"
	"github.com/policyd/policyd/internal/roots"
	"github.com/policyd/policyd/internal/text"
)

// Load reads and checks the settings file at path and the files that it names; "" means DefaultPath, which
// does not have to exist. The error is an *Error with every mistake. The settings are returned even then: those with a
// mistake have their default, for commands that only need to find the running daemon.
func Load(path string) (*Loaded, error) {
	l := &Loaded{Path: cmp.Or(path, DefaultPath), Settings: Default()}
	document, err := regfile.Read(l.Path)
	if err != nil && (path != "" || !errors.Is(err, fs.ErrNotExist)) {
		return l, unreadable(l.Path, err)
	}
	l.Found = err == nil
	return l.check(document)
}

// Read is Load for a text that is not in a file, such as standard input. name stands for the file in messages.
func Read(name string, r io.Reader) (*Loaded, error) {
	document, err := io.ReadAll(r)
	if err != nil {
		return nil, unreadable(name, err)
	}
	l := &Loaded{Path: name, Settings: Default(), Found: true}
	return l.check(document)
}

func unreadable(name string, err error) *Error {
	return &Error{Path: name, Found: !errors.Is(err, fs.ErrNotExist),
		Problems: []Problem{{File: name, Text: "the settings cannot be read: " + cause(err)}}}
}

func (l *Loaded) check(document []byte) (*Loaded, error) {
	if problems := l.read(document); len(problems) > 0 {
		for i, p := range problems {
			problems[i].File = cmp.Or(p.File, l.Path)
		}
		return l, &Error{l.Path, l.Found, problems}
	}
	l.Warnings = l.warnings()
	return l, nil
}

// UnusedListen returns a warning if the file sets server.listen to addresses that are not among those that systemd
// passes, which replace them. passed is empty if systemd passes none.
func (l *Loaded) UnusedListen(passed []string) []string {
	if _, set := l.document.values["server.listen"]; !set || len(passed) == 0 {
		return nil
	}
	unused := slices.DeleteFunc(slices.Clone(l.Server.Listen),
		func(address string) bool { return slices.Contains(passed, address) })
	if len(unused) == 0 {
		return nil
	}
	return []string{"server.listen: " + strings.Join(unused, ", ") +
		" is not used, because systemd passes the listeners of policyd.socket: " +
		`use "systemctl edit policyd.socket", or mask policyd.socket and restart policyd.service`}
}

// KeepUntilRestart puts back from old what only a restart can change, and returns the keys of what would have changed.
func (l *Loaded) KeepUntilRestart(old *Loaded) (kept []string) {
	before := old.rows()
	for i, r := range l.rows() {
		if r.restart && !r.is(before[i].value) {
			r.value.Set(before[i].value)
			kept = append(kept, r.path)
		}
	}
	return kept
}

// Mistake returns the error for a mistake in a setting that shows only where the setting is used.
func (l *Loaded) Mistake(key, text string) *Error {
	p := Problem{File: l.Path, Text: key + ": " + text}
	if l.Found {
		p.Line = l.document.line(key)
	}
	return &Error{l.Path, l.Found, []Problem{p}}
}

// cause is an error of a file without the path, which the message names already.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// read decodes and checks a document and the files that it names.
func (l *Loaded) read(text []byte) []Problem {
	var problems []Problem
	l.document, problems = newDocument(strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n"))
	problems = slices.Concat(problems, l.decode(l.document), l.readFiles())
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line) // the settings file first, which has no name yet
	})
	return problems
}

// readFiles reads the files that the settings name.
func (l *Loaded) readFiles() (problems []Problem) {
	at := func(key, text string) {
		problems = append(problems, Problem{Line: l.document.line(key), Text: key + ": " + text})
	}
	switch err := l.readRoots(); {
	case errors.Is(err, roots.ErrNone):
		at("tls.ca_file", "no certificate in "+l.TLS.CAFile+": write the path of a PEM file with root certificates")
	case err != nil:
		at("tls.ca_file", l.TLS.CAFile+" cannot be read: "+cause(err)+
			": write the path of a PEM file, or leave the setting out for the system's roots")
	}
	if l.Fleet.URL != "" {
		if l.Fleet.KeyFile == "" {
			at("fleet.url", `a site key is required: make one with "policyd fleet key" and write the path of its `+
				`file as key_file`)
		}
		if err := l.readFleetKey(l.Fleet.KeyFile); err != nil {
			at("fleet.key_file", err.Error())
		}
		if err := l.readFleetKey(l.Fleet.PreviousKeyFile); err != nil {
			at("fleet.previous_key_file", err.Error())
		}
	}
	rules, err := regfile.Read(l.Overrides)
	switch {
	case errors.Is(err, fs.ErrNotExist) && l.Overrides == defaultOverrides:
	case err != nil:
		at("overrides", l.Overrides+" cannot be read: "+cause(err)+": create the file or leave the setting out")
	default:
		l.Rules = policy.ParseOverrides(bytes.NewReader(rules), func(line int, what string) {
			problems = append(problems, Problem{File: l.Overrides, Line: line, Text: text.Visible(what)})
		})
	}
	return problems
}

// readFleetKey adds the site key in a file to FleetKeys.
func (l *Loaded) readFleetKey(path string) error {
	if path == "" {
		return nil
	}
	text, err := regfile.Read(path)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %s", path, cause(err))
	}
	key, err := fleet.ParseKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s can be read by every user of this machine: chmod 0640 it", path)
	}
	l.FleetKeys = append(l.FleetKeys, key)
	return nil
}

// readRoots reads the root certificates of ca_file, or of the system.
func (l *Loaded) readRoots() error {
	set, err := roots.Load(l.TLS.CAFile)
	if err != nil {
		return err
	}
	l.roots, l.Roots = set, set.Pool
	return nil
}

// RootsChanged reports whether the files with the root certificates have changed since they were read.
func (l *Loaded) RootsChanged() bool { return l.roots.Changed() }

// WithNewRoots returns the same settings with the root certificates read again. The error is the reason why they cannot
// be used; it is roots.ErrNone if there are none.
func (l *Loaded) WithNewRoots() (*Loaded, error) {
	next := *l
	if err := next.readRoots(); err != nil {
		return nil, err
	}
	if next.roots.Empty {
		return nil, roots.ErrNone
	}
	return &next, nil
}

// resolverRoots returns the root certificates for DNS over TLS, nil if no server needs them: they are a part of the
// trust in the servers, and a change of them voids all cached answers.
func (l *Loaded) resolverRoots() *x509.CertPool {
	if slices.ContainsFunc(l.DNS.Servers, func(s string) bool { return strings.HasPrefix(s, "tls://") }) {
		return l.Roots
	}
	return nil
}
