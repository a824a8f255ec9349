package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Promises are the functions of a Daemon that concern the memory of promises. All of them must be set.
type Promises struct {
	// List returns what is remembered, by domain.
	List func(PromiseFilter) PromiseList
	// Get returns what is remembered about one domain, and false if that is nothing.
	Get func(domain string) (Promise, bool)
	// Forget removes what is remembered about a domain and ends a hold. It reports whether there was anything.
	Forget func(domain string) bool
	// Warm evaluates a domain as for mail to it, which fills the memory and fetches its MTA-STS policy.
	Warm func(ctx context.Context, domain string) Warmed
}

// PromiseFilter selects the promises in a list.
type PromiseFilter struct {
	// Match is a part of the domains, or a pattern with * ? or [; "" matches all.
	Match string
	// Vanished selects the domains whose promise is missing now.
	Vanished bool
	// Limit is the largest number of domains.
	Limit int
}

// PromiseList is what is remembered, by domain.
type PromiseList struct {
	Promises []Promise `json:"promises"`
	// More is set when there are more domains than the limit allows.
	More bool `json:"more"`
}

// Promise is what is remembered about one domain.
type Promise struct {
	Domain string `json:"domain"`
	// Seen has one entry for each kind of promise that was seen.
	Seen []SeenPromise `json:"seen"`
	// MissingSince is when an established promise was first missing from an unsigned answer; left out if it is there.
	MissingSince time.Time `json:"missing_since,omitzero"`
	// HeldUntil is when mail for the domain no longer waits because of that; left out if it does not wait.
	HeldUntil time.Time `json:"held_until,omitzero"`
	// MayHold is set if an answer without the promise may be held now: the domain was not held in the last 30 days.
	MayHold bool `json:"may_hold"`
}

// SeenPromise is the period in which one kind of promise was seen. First and Last are dates in UTC, such as 2026-11-28.
type SeenPromise struct {
	// Kind is prefix, mta-sts or dane.
	Kind  string `json:"kind"`
	First string `json:"first"`
	Last  string `json:"last"`
	Days  int    `json:"days"`
	// Signed is set if DNSSEC protected the MX RRset when the promise was last seen.
	Signed bool `json:"signed"`
	// Established is set if the promise was seen on enough days to be missed.
	Established bool `json:"established"`
}

// DomainRequest names the domain to forget or to evaluate.
type DomainRequest struct {
	Domain string `json:"domain"`
}

// Forgotten reports whether there was anything to forget.
type Forgotten struct {
	Forgotten bool `json:"forgotten"`
}

// Warmed is what the evaluation of a domain found.
type Warmed struct {
	Domain string `json:"domain"`
	// Status is that of the tls-policy answer with mode = "enforce": OK, NOTFOUND or TEMP. Source is the mechanism that decided.
	Status string `json:"status"`
	Source string `json:"source"`
}

// PromiseStatus is the state of the remembered promises.
type PromiseStatus struct {
	// Remembered counts domains, Missing those whose promise is missing now, Held those whose mail waits because of that.
	Remembered int `json:"remembered"`
	Missing    int `json:"missing"`
	Held       int `json:"held"`
	// Vanished counts the promises that have vanished since the start.
	Vanished uint64 `json:"vanished"`
	// Domains are some of those whose promise is missing.
	Domains []string `json:"domains"`
}

// FleetStatus is the state of the exchange with the other nodes.
type FleetStatus struct {
	// Up is set if the latest exchange with the server succeeded. Otherwise Error is the reason.
	Up          bool      `json:"up"`
	Error       string    `json:"error,omitempty"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	// Sent, Received and Merged count records; Ignored counts those that were refused, by reason.
	Sent     uint64            `json:"sent"`
	Received uint64            `json:"received"`
	Merged   uint64            `json:"merged"`
	Ignored  map[string]uint64 `json:"ignored"`
}

func (s *Server) promises(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	f := PromiseFilter{Match: query.Get("match"), Limit: defaultList}
	err := only(query, "match", "limit", "vanished")
	if text := query.Get("limit"); err == nil && text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > MaxList {
			err = fmt.Errorf("limit must be a number from 1 to %d", MaxList)
		}
	}
	if text := query.Get("vanished"); err == nil && text != "" {
		if f.Vanished, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("vanished must be true or false")
		}
	}
	if err == nil && len(f.Match) > maxMatch {
		err = fmt.Errorf("match is longer than %d bytes", maxMatch)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, s.daemon.Promises.List(f))
}

func (s *Server) promise(w http.ResponseWriter, r *http.Request) {
	domain, err := domainName(r.PathValue("domain"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	p, ok := s.daemon.Promises.Get(domain)
	if !ok {
		refuse(w, http.StatusNotFound, "nothing is remembered about "+domain)
		return
	}
	answer(w, p)
}

func (s *Server) forget(w http.ResponseWriter, r *http.Request) {
	f, err := decode[DomainRequest](r.Body)
	if err == nil {
		f.Domain, err = domainName(f.Domain)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	forgotten := s.daemon.Promises.Forget(f.Domain)
	s.log.Info("promises forgotten by the operator", "nexthop", f.Domain, "known", forgotten)
	answer(w, Forgotten{forgotten})
}

func (s *Server) warm(w http.ResponseWriter, r *http.Request) {
	f, err := decode[DomainRequest](r.Body)
	if err == nil {
		f.Domain, err = domainName(f.Domain)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	select {
	case s.explained <- struct{}{}:
		defer func() { <-s.explained }()
	default:
		refuse(w, http.StatusServiceUnavailable, "too many concurrent queries: try again")
		return
	}
	answer(w, s.daemon.Promises.Warm(r.Context(), f.Domain))
}

// Promises asks for what is remembered.
func (c *Client) Promises(ctx context.Context, f PromiseFilter) (PromiseList, error) {
	query := url.Values{"limit": {strconv.Itoa(f.Limit)}, "vanished": {strconv.FormatBool(f.Vanished)}}
	if f.Match != "" {
		query.Set("match", f.Match)
	}
	return call[PromiseList](ctx, c, http.MethodGet, "/v1/promises?"+query.Encode(), nil)
}

// Promise asks for what is remembered about one domain. A RefusedError with code 404 means nothing.
func (c *Client) Promise(ctx context.Context, domain string) (Promise, error) {
	return call[Promise](ctx, c, http.MethodGet, "/v1/promises/"+url.PathEscape(domain), nil)
}

// Forget removes what is remembered about a domain.
func (c *Client) Forget(ctx context.Context, domain string) (Forgotten, error) {
	return post[Forgotten](ctx, c, "/v1/promises/forget", DomainRequest{domain})
}

// Warm evaluates a domain as for mail to it.
func (c *Client) Warm(ctx context.Context, domain string) (Warmed, error) {
	return post[Warmed](ctx, c, "/v1/warm", DomainRequest{domain})
}

func post[T any](ctx context.Context, c *Client, path string, body DomainRequest) (T, error) {
	b, err := json.Marshal(body)
	if err != nil {
		var zero T
		return zero, err
	}
	return call[T](ctx, c, http.MethodPost, path, b)
}
