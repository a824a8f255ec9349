// Package admin is the API of the daemon for its operator: HTTP with JSON over a unix socket, described in
// docs/admin-api.md. The permissions of the socket are the access control. Anyone who can open it can see everything
// the daemon knows and change what can be changed while it runs, so none of this is served anywhere else.
package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/explain"
)

// Endpoint is a method and a path of the API. Q is the type of a request, and A that of its answer. Server answers the
// requests that Ask sends.
type Endpoint[Q, A any] string

// The endpoints.
const (
	GetStatus  Endpoint[struct{}, status.Status]      = "GET /v1/status"
	ListCache  Endpoint[Filter, CacheList]            = "GET /v1/cache"
	GetDomain  Endpoint[DomainRequest, status.Domain] = "GET /v1/cache/{domain}"
	FlushCache Endpoint[FlushRequest, Flushed]        = "POST /v1/cache/flush"
	DoReload   Endpoint[struct{}, status.Reload]      = "POST /v1/reload"
	GetLevel   Endpoint[struct{}, Level]              = "GET /v1/log-level"
	SetLevel   Endpoint[Level, Level]                 = "PUT /v1/log-level"
	Explain    Endpoint[Nexthop, explain.Result]      = "GET /v1/query"
)

// The bounds on a request.
const (
	maxBody    = 4 << 10
	maxMatch   = 255
	maxNexthop = 1024
	// MaxList is the most entries that a list can have.
	MaxList = 100_000
)

// The requests are sent as JSON, those of a GET in the path and the parameters. Their check methods reject what is not
// allowed, and normalize the rest.

// DomainRequest names a domain.
type DomainRequest struct {
	Domain string `json:"domain"`
}

// Nexthop names a next hop.
type Nexthop struct {
	Nexthop string `json:"nexthop"`
}

// Filter selects the entries of a list.
type Filter struct {
	Match    string `json:"match,omitzero"`           // a part of the names, or a pattern with * ? or [; "" matches all
	Limit    int    `json:"limit,string,omitzero"`    // maximum number of entries, from 1 to MaxList; default 1000
	Vanished bool   `json:"vanished,string,omitzero"` // for promises: only domains whose promise is missing now
}

// FlushRequest names what to remove from the cache: one domain, or everything.
type FlushRequest struct {
	// Domain stands for itself, the names below it and the records of its MX hosts.
	Domain string `json:"domain,omitempty"`
	All    bool   `json:"all,omitempty"`
	// STS also removes the MTA-STS policy of Domain. Until it is fetched again, only the TXT record, which an attacker
	// can suppress, shows that there is a policy (RFC 8461 section 10.2). It is therefore for one domain at a time.
	STS bool `json:"sts,omitempty"`
}

// Level is a level of the log: debug, info, warn or error.
type Level struct {
	Level string `json:"level"`
}

// CacheList is what the cache has, by name and type.
type CacheList struct {
	Entries []dnscache.Entry `json:"entries"`
	More    bool             `json:"more"` // there are more entries than the limit allows
}

// Flushed has the numbers of removed entries.
type Flushed struct {
	Cache    int `json:"cache"`
	Policies int `json:"policies"`
}

func (d *DomainRequest) check() (err error) {
	d.Domain, err = ParseDomain(d.Domain)
	return err
}

func (n *Nexthop) check() error { return checkNexthop("nexthop", n.Nexthop) }

func checkNexthop(name, value string) error {
	if value == "" || len(value) > maxNexthop {
		return fmt.Errorf("%s must have 1 to %d bytes", name, maxNexthop)
	}
	return nil
}

func (f *Filter) check() error { return f.Check() }

// Check returns the mistake in f, for the command line too: flags have the names of the fields.
func (f *Filter) Check() error {
	if len(f.Match) > maxMatch || f.Limit < 1 || f.Limit > MaxList {
		return fmt.Errorf("match has at most %d bytes, and limit is from 1 to %d", maxMatch, MaxList)
	}
	if _, err := path.Match(f.Match, ""); err != nil && strings.ContainsAny(f.Match, "*?[") {
		return fmt.Errorf(`match %q is not a valid pattern: write one such as "*.example.com" or "mx[0-9].*"`, f.Match)
	}
	return nil
}

func (f *FlushRequest) check() error {
	if f.All && f.Domain == "" && !f.STS {
		return nil
	}
	domain, err := ParseDomain(f.Domain)
	if f.All || err != nil {
		return errors.New(`give either a "domain", with "sts": true to remove its MTA-STS policy too, or "all": true`)
	}
	f.Domain = domain
	return nil
}

func (l *Level) check() error { return new(slog.Level).UnmarshalText([]byte(l.Level)) }

// LevelOf returns a level of the log.
func LevelOf(l slog.Leveler) Level { return Level{strings.ToLower(l.Level().String())} }

// decode reads a request. It rejects unknown fields, and parameters that are unknown or given twice.
func decode[Q any](r *http.Request) (q Q, err error) {
	body, inURL := io.Reader(r.Body), r.Method == http.MethodGet || r.Method == http.MethodHead
	if inURL {
		parameters := map[string]string{}
		for name, values := range r.URL.Query() {
			if len(values) > 1 {
				return q, fmt.Errorf("%s is given twice", name)
			}
			parameters[name] = values[0]
		}
		if domain := r.PathValue("domain"); domain != "" {
			parameters["domain"] = domain
		}
		text, _ := json.Marshal(parameters) // cannot fail for strings
		body = bytes.NewReader(text)
	} else if _, ok := any(q).(struct{}); ok {
		return q, nil
	}
	if f, ok := any(&q).(*Filter); ok {
		f.Limit = 1000 // by default
	}
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil && inURL {
		return q, fmt.Errorf("wrong parameter in %q: see docs/admin-api.md", r.URL.RawQuery)
	} else if err != nil {
		return q, fmt.Errorf("malformed request, see docs/admin-api.md: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return q, errors.New("malformed request: unexpected data after the JSON value")
	}
	if c, ok := any(&q).(interface{ check() error }); ok {
		err = c.check()
	}
	return q, err
}
