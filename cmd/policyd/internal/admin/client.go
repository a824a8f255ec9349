package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/internal/policy"
)

// RefusedError is a request that the daemon refused, and its answer.
type RefusedError struct {
	Code    int    `json:"-"` // the HTTP status
	Message string `json:"error"`
}

// Error returns the message of the daemon.
func (e *RefusedError) Error() string { return e.Message }

// maxAnswer bounds an answer: MaxList entries with long records stay below it.
const maxAnswer = 256 << 20

// Ask sends a request to the daemon at a socket and returns the answer. The error names the socket and the remedy, or
// is a RefusedError or the error of ctx.
func (e Endpoint[Q, A]) Ask(ctx context.Context, socket string, q Q) (answer A, err error) {
	body, _ := json.Marshal(q) // requests have only strings, a number and booleans
	method, path, _ := strings.Cut(string(e), " ")
	if method == http.MethodGet {
		var fields map[string]string
		_ = json.Unmarshal(body, &fields) // decode expects this form
		parameters := url.Values{}
		for name, value := range fields {
			parameters.Set(name, value)
		}
		if start, inPath := strings.CutSuffix(path, "{domain}"); inPath {
			path = start + url.PathEscape(fields["domain"])
			parameters.Del("domain")
		}
		path, body = path+"?"+parameters.Encode(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://policyd"+path, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	daemon := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableCompression: true, DisableKeepAlives: true,
	}
	resp, err := daemon.RoundTrip(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			refused := &RefusedError{Code: resp.StatusCode}
			if err := read(resp.Body, refused); err != nil || refused.Message == "" {
				refused.Message = "the daemon answers " + Visible(resp.Status)
			}
			return answer, refused
		}
		err = read(resp.Body, &answer)
	}
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return answer, fmt.Errorf(`no daemon answers at %s: start it with "systemctl start policyd" or `+
			`"policyd serve", or name its socket with --socket`, socket)
	case errors.Is(err, fs.ErrPermission): // at the socket, or at a directory above it
		return answer, fmt.Errorf("permission denied at %s: be root or a member of the group of the socket", socket)
	case ctx.Err() != nil:
		return answer, fmt.Errorf("%s: no answer in time: %w", socket, ctx.Err())
	}
	return answer, fmt.Errorf("%s: no answer: the daemon is stopping, or this is not its admin socket: %w", socket, err)
}

// DomainOf returns the domain of an e-mail address, and any other argument as it is: no local part is shown or logged.
func DomainOf(arg string) string { return arg[strings.LastIndexByte(arg, '@')+1:] }

// ParseDomain returns the domain of an argument in A-labels and lower case. The error is without the local part of an
// e-mail address.
func ParseDomain(arg string) (string, error) {
	if name, ok := policy.ParseName(arg); ok {
		return name, nil
	}
	if at := strings.LastIndexByte(arg, '@'); at >= 0 {
		arg = "*" + arg[at:]
	}
	return "", fmt.Errorf("%q is not a domain: name one, such as example.com", arg)
}
