package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/report"
)

// What keeps a client from the daemon.
var (
	// ErrNotRunning: no process answers at the socket. Start the daemon, or look at another socket.
	ErrNotRunning = errors.New("admin: no daemon answers")
	// ErrForbidden: the permissions of the socket, or of a directory above it, forbid.
	ErrForbidden = errors.New("admin: permission denied")
	// ErrUnreadable: something answers and it is no admin API, or it broke off. Look whether it is the right socket.
	ErrUnreadable = errors.New("admin: the peer is not an admin API, or has closed the connection")
)

// RefusedError is a request that the daemon refused.
type RefusedError struct {
	Code    int
	Message string
}

// Error returns what the daemon said.
func (e *RefusedError) Error() string { return e.Message }

// maxAnswer bounds what a client reads; MaxList entries with long records stay below it.
const maxAnswer = 256 << 20

// maxWait bounds the time that one request takes.
const maxWait = 90 * time.Second

// Client asks a daemon. Make one with NewClient, and Close it.
type Client struct {
	http *http.Client
}

// NewClient returns a client for the socket at path. Nothing is connected yet.
func NewClient(path string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableCompression: true,
	}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how the daemon is doing. The errors of this and of all others are ErrNotRunning, ErrForbidden,
// ErrUnreadable, a RefusedError, or that of ctx.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status", nil)
}

// List asks what the cache has.
func (c *Client) List(ctx context.Context, f Filter) (CacheList, error) {
	return get[CacheList](ctx, c, "/v1/cache", f.values())
}

// Get asks what is known about a domain.
func (c *Client) Get(ctx context.Context, domain string) (Domain, error) {
	return get[Domain](ctx, c, "/v1/cache/"+url.PathEscape(domain), nil)
}

// Flush makes the daemon forget.
func (c *Client) Flush(ctx context.Context, f FlushRequest) (Flushed, error) {
	return call[Flushed](ctx, c, http.MethodPost, "/v1/cache/flush", f)
}

// Reload makes the daemon read its settings again. A RefusedError lists the mistakes in them.
func (c *Client) Reload(ctx context.Context) (Reload, error) {
	return call[Reload](ctx, c, http.MethodPost, "/v1/reload", nil)
}

// Level asks for the level of the log.
func (c *Client) Level(ctx context.Context) (Level, error) {
	return get[Level](ctx, c, "/v1/log-level", nil)
}

// SetLevel changes the level of the log.
func (c *Client) SetLevel(ctx context.Context, level slog.Level) (Level, error) {
	return call[Level](ctx, c, http.MethodPut, "/v1/log-level", Level{Level: levelText(level)})
}

// Explain asks for the evaluation of a next hop.
func (c *Client) Explain(ctx context.Context, nexthop string) (lookup.Explanation, error) {
	return get[lookup.Explanation](ctx, c, "/v1/query", url.Values{"nexthop": {nexthop}})
}

// Report asks for the sum of the lookups since then; the zero time means all that are remembered.
func (c *Client) Report(ctx context.Context, since time.Time) (report.Report, error) {
	query := url.Values{}
	if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339))
	}
	return get[report.Report](ctx, c, "/v1/report", query)
}

// Promises asks for the remembered promises.
func (c *Client) Promises(ctx context.Context, f Filter) (PromiseList, error) {
	return get[PromiseList](ctx, c, "/v1/promises", f.values())
}

// Promise asks for the remembered promises of one domain. A RefusedError with code 404 means that there are none.
func (c *Client) Promise(ctx context.Context, domain string) (Promise, error) {
	return get[Promise](ctx, c, "/v1/promises/"+url.PathEscape(domain), nil)
}

// Forget removes what is remembered about a domain.
func (c *Client) Forget(ctx context.Context, domain string) (Forgotten, error) {
	return call[Forgotten](ctx, c, http.MethodPost, "/v1/promises/forget", DomainRequest{domain})
}

// Warm evaluates a domain as for mail to it.
func (c *Client) Warm(ctx context.Context, domain string) (Warmed, error) {
	return call[Warmed](ctx, c, http.MethodPost, "/v1/warm", DomainRequest{domain})
}

// values returns the query for a list.
func (f Filter) values() url.Values {
	query := url.Values{}
	if f.Match != "" {
		query.Set("match", f.Match)
	}
	if f.Limit > 0 {
		query.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Vanished {
		query.Set("vanished", "true")
	}
	return query
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path+"?"+query.Encode(), nil)
}

// call sends a request, with body as JSON unless it is nil.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var v T
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return v, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://policyd"+path, &sent)
	if err != nil {
		return v, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return v, ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return v, ErrForbidden
	case err != nil && ctx.Err() != nil:
		return v, fmt.Errorf("admin: no answer in time: %w", ctx.Err())
	case err != nil:
		if without, ok := errors.AsType[*url.Error](err); ok {
			err = without.Err // the URL is made up
		}
		return v, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode != http.StatusOK {
		var r Refusal
		if err := json.NewDecoder(answer).Decode(&r); err != nil || r.Message == "" {
			r.Message = "the daemon answers " + resp.Status
		}
		clean(reflect.ValueOf(&r))
		return v, &RefusedError{Code: resp.StatusCode, Message: r.Message}
	}
	if err := json.NewDecoder(answer).Decode(&v); err != nil {
		return v, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	clean(reflect.ValueOf(&v))
	return v, nil
}
