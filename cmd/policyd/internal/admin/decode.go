package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/policy"
)

// The bounds on a request.
const (
	maxBody     = 4 << 10
	maxMatch    = 255
	maxNexthop  = 1024
	defaultList = 1000
	// MaxList is the most entries that a cache list can have.
	MaxList = 100_000
)

// decode reads one JSON value with no fields but those of T, and nothing behind it.
func decode[T any](body io.Reader) (T, error) {
	var v T
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the body is empty")
		}
		return v, fmt.Errorf("not the JSON that is expected here: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, errors.New("there is something behind the JSON value")
	}
	return v, nil
}

// flushRequest reads a flush. The domain comes back in its one form.
func flushRequest(r *http.Request) (FlushRequest, error) {
	f, err := decode[FlushRequest](r.Body)
	if err != nil {
		return f, err
	}
	if f.All == (f.Domain != "") {
		return f, errors.New(`give either "domain" or "all": true`)
	}
	if f.All && f.STS {
		return f, errors.New("MTA-STS policies are forgotten for one domain at a time: they protect the others")
	}
	if f.All {
		return f, nil
	}
	f.Domain, err = domainName(f.Domain)
	return f, err
}

// levelRequest reads a change of level.
func levelRequest(r *http.Request) (slog.Level, error) {
	l, err := decode[Level](r.Body)
	if err != nil {
		return 0, err
	}
	return ParseLevel(l.Level)
}

// ParseLevel takes debug, info, warn or error.
func ParseLevel(s string) (slog.Level, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if s == levelText(l) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown level %q: use debug, info, warn or error", s)
}

func levelText(l slog.Level) string { return strings.ToLower(l.String()) }

// decodeFilter reads the query of a list, which takes the parameters that are known.
func decodeFilter(query url.Values, known ...string) (Filter, error) {
	f := Filter{Limit: defaultList, Match: strings.ToLower(query.Get("match"))}
	if err := only(query, known...); err != nil {
		return f, err
	}
	if len(f.Match) > maxMatch {
		return f, fmt.Errorf("match is over %d bytes", maxMatch)
	}
	var err error
	if text := query.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > MaxList {
			return f, fmt.Errorf("limit must be a number from 1 to %d", MaxList)
		}
	}
	if text := query.Get("vanished"); text != "" {
		if f.Vanished, err = strconv.ParseBool(text); err != nil {
			return f, errors.New("vanished must be true or false")
		}
	}
	return f, nil
}

// decodeNexthop reads the query of an explanation.
func decodeNexthop(query url.Values, parameter string) (string, error) {
	if err := only(query, parameter); err != nil {
		return "", err
	}
	next := query.Get(parameter)
	if next == "" || len(next) > maxNexthop {
		return "", fmt.Errorf("%s must have 1 to %d bytes", parameter, maxNexthop)
	}
	return next, nil
}

// reportTime reads the query of a report: the time as in RFC 3339, or the zero time without one.
func reportTime(r *http.Request) (time.Time, error) {
	query := r.URL.Query()
	if err := only(query, "since"); err != nil {
		return time.Time{}, err
	}
	text := query.Get("since")
	if text == "" {
		return time.Time{}, nil
	}
	since, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("since must be a time such as 2026-11-28T08:00:00Z")
	}
	return since, nil
}

// only refuses parameters that are not known, and those that come twice.
func only(query url.Values, known ...string) error {
	seen := 0
	for _, k := range known {
		if len(query[k]) > 1 {
			return fmt.Errorf("%s is given twice", k)
		}
		seen += len(query[k])
	}
	if len(query) > seen {
		if len(known) == 0 {
			return errors.New("unknown parameter: this path has none")
		}
		return fmt.Errorf("unknown parameter: use %s", strings.Join(known, ", "))
	}
	return nil
}

func domainName(s string) (string, error) {
	name, ok := policy.ParseName(s)
	if !ok {
		return "", fmt.Errorf("%q is not a domain name", s)
	}
	return name, nil
}
