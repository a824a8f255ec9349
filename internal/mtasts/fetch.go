package mtasts

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/policyd/policyd/internal/dns"
)

const (
	httpsPort      = 443
	connectTimeout = 3 * time.Second
	maxHeader      = 64 << 10
)

// Fetcher fetches policies over HTTPS. It must not be changed after its first use.
type Fetcher struct {
	Resolver dns.Starter    // looks up the addresses of policy hosts
	Roots    *x509.CertPool // verify the certificate of the policy host; nil means the system's root certificates
	Special  bool           // allow special-purpose addresses, such as loopback: for tests and private networks
	Port     uint16         // the port of the policy hosts; 0 means 443
	// ProxyFromEnvironment sends requests through the proxy that HTTPS_PROXY and NO_PROXY name for the policy host. The
	// proxy then looks up the host, so Resolver and Special do not matter. The TLS connection still ends at the policy
	// host.
	ProxyFromEnvironment bool
}

// Fetch fetches the policy of a domain, RFC 8461 section 3.3, from each address of the policy host in turn until one
// answers. Only ctx limits how long it takes. The error is an *Error and names each address with what happened there.
func (f *Fetcher) Fetch(ctx context.Context, domain string) (Policy, error) {
	body, addr, err := f.body(ctx, "mta-sts."+domain)
	if err != nil {
		failed := &Error{Domain: domain, Failure: FetchError, Err: err, Addr: addr}
		// A certificate that does not verify says more than an address that does not answer.
		if _, invalid := errors.AsType[*tls.CertificateVerificationError](err); invalid {
			failed.Failure = WebPKIInvalid
		}
		return Policy{}, failed
	}
	p, err := ParsePolicy(body)
	if err != nil {
		return Policy{}, &Error{Domain: domain, Failure: PolicyInvalid, Err: err}
	}
	return p, nil
}

// body fetches the policy through the proxy, if there is one, or else from the first address of the host that answers.
// It returns the address that it tried first.
func (f *Fetcher) body(ctx context.Context, host string) (body []byte, first netip.Addr, err error) {
	body, used, err := f.throughProxy(ctx, host)
	if used {
		return body, first, err
	}
	var failed, problems []error // of addresses that were tried; of lookups and all other addresses
	for addr, more := range f.candidates(ctx, host, &problems) {
		if !first.IsValid() {
			first = addr
		}
		// If this address hangs, there must be time left for the others.
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if end, limited := ctx.Deadline(); limited && more {
			attempt, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		}
		to := netip.AddrPortFrom(addr, cmp.Or(f.Port, httpsPort)).String()
		body, err = f.get(attempt, host, &http.Transport{
			DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialTLS(ctx, to, f.config(host))
			},
		})
		cancel()
		if err == nil {
			return body, first, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", addr, err))
		if _, answered := errors.AsType[answerError](err); answered || ctx.Err() != nil {
			return nil, first, errors.Join(failed...)
		}
	}
	err = errors.Join(append(failed, problems...)...)
	if err == nil {
		err = errors.New("the policy host has no address")
	}
	return nil, first, err
}

// answerError is an answer of the verified policy host that is not a policy. Its other addresses are not tried.
type answerError string

func (e answerError) Error() string { return string(e) }

func (f *Fetcher) url(host string) *url.URL {
	if f.Port != 0 && f.Port != httpsPort {
		host = net.JoinHostPort(host, strconv.Itoa(int(f.Port)))
	}
	return &url.URL{Scheme: "https", Host: host, Path: "/.well-known/mta-sts.txt"}
}

func (f *Fetcher) config(host string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: f.Roots, MinVersion: tls.VersionTLS12}
}

// get fetches the policy over a transport that connects to the host.
func (f *Fetcher) get(ctx context.Context, host string, transport *http.Transport) ([]byte, error) {
	transport.DisableKeepAlives, transport.DisableCompression = true, true
	transport.MaxResponseHeaderBytes = maxHeader
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url(host).String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "policyd")
	request.Header.Set("Accept", "text/plain")
	response, err := transport.RoundTrip(request) // unlike a Client: "HTTP 3xx redirects MUST NOT be followed."
	if err != nil {
		return nil, bare(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := acceptable(response); err != nil {
		return nil, err
	}
	// ParsePolicy refuses a body that is longer than MaxPolicySize.
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxPolicySize+1))
	if err == nil {
		// A host that sees policyd give up may end its answer properly, although it has not sent all of it.
		err = ctx.Err()
	}
	return body, err
}

// bare returns an error without the address, which its reader already knows.
func bare(err error) error {
	for {
		wrapped, ok := errors.AsType[*net.OpError](err)
		if !ok || wrapped.Op != "dial" && wrapped.Op != "proxyconnect" {
			return err
		}
		err = wrapped.Err
	}
}

// dialTLS connects and does the TLS handshake. http.Transport would do the handshake in a goroutine of its own, where a
// certificate that makes crypto/x509 panic would end the daemon.
func dialTLS(ctx context.Context, to string, config *tls.Config) (conn net.Conn, err error) {
	plain, err := dial(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the TLS handshake: %v", p)
		}
		if err != nil {
			conn = nil
			_ = plain.Close()
		}
	}()
	secured := tls.Client(plain, config)
	return secured, secured.HandshakeContext(ctx)
}

func dial(ctx context.Context, network, to string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: connectTimeout}
	conn, err := dialer.DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	return noEOF{conn}, nil
}

// acceptable checks everything except the body, RFC 8461 sections 3.2 and 3.3.
func acceptable(response *http.Response) error {
	// "Policies fetched via HTTPS are only valid if the HTTP response code is 200 (OK)."
	if response.StatusCode != http.StatusOK {
		return answerError("HTTP status " + strconv.Itoa(response.StatusCode))
	}
	// "Senders SHOULD validate that the media type is "text/plain" to guard against cases where web servers allow
	// untrusted users to host non-text content." Its parameters do not matter.
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || kind != "text/plain" {
		return answerError("media type is not text/plain")
	}
	if encoding := response.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return answerError("unexpected Content-Encoding")
	}
	return nil
}
