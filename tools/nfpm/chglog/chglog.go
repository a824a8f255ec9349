// Package chglog stands in for github.com/goreleaser/chglog, which nfpm uses to format a changelog from YAML. policyd's
// packages have their own changelog. The real package compiles go-git and two template libraries, half of the time of
// "make deb".
package chglog

import (
	"errors"
	"text/template"
	"time"
)

// These have the fields that nfpm uses.
type (
	Entry struct {
		Packager, Semver string
		Date             time.Time
	}
	Entries          []Entry
	PackageChangeLog struct {
		Name    string
		Entries Entries
	}
)

var errUnsupported = errors.New("this nfpm does not format changelogs: remove changelog from nfpm.yaml")

// Parse would read a changelog in YAML.
func Parse(string) (Entries, error) { return nil, errUnsupported }

// DebTemplate would return the format of Debian.
func DebTemplate() (*template.Template, error) { return nil, errUnsupported }

// LoadTemplateData would parse a template.
func LoadTemplateData(string) (*template.Template, error) { return nil, errUnsupported }

// FormatChangelog would apply a template.
func FormatChangelog(*PackageChangeLog, *template.Template) (string, error) {
	return "", errUnsupported
}
