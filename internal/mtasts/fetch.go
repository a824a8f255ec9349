package mtasts

import (
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

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/resolver"
)

const (
	maxAddrs       = 8
	connectTimeout = 3 * time.Second
	maxHeader      = 64 << 10
)

// Fetcher fetches policies over HTTPS. It is not changed after its first use.
type Fetcher struct {
	// Resolver looks up the addresses of the policy host.
	Resolver resolver.Resolver
	// Roots verify the certificate of the policy host; nil means the system's root certificates.
	Roots *x509.CertPool
	// Special allows policy hosts at special-purpose addresses, such as loopback: for tests and private networks.
	Special bool
	// Port of the policy hosts; 0 means 443.
	Port uint16
}

// Fetch fetches the policy of a domain, RFC 8461 section 3.3, from each address of the policy host until one
// answers. The error is an *Error.
func (f *Fetcher) Fetch(ctx context.Context, domain string) (Policy, error) {
	addrs, err := f.addrs(ctx, hostLabel+domain)
	if err != nil {
		return Policy{}, &Error{domain, FetchError, err}
	}
	var last *Error
	for i, addr := range addrs {
		// An address that hangs leaves time for the others.
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if end, ok := ctx.Deadline(); ok && i < len(addrs)-1 {
			const half = 2
			attempt, cancel = context.WithTimeout(ctx, time.Until(end)/half)
		}
		body, err := f.get(attempt, hostLabel+domain, addr)
		cancel()
		if err == nil {
			p, err := ParsePolicy(body)
			if err != nil {
				return Policy{}, &Error{domain, PolicyInvalid, err}
			}
			return p, nil
		}
		if _, answered := errors.AsType[*answerError](err); answered {
			return Policy{}, &Error{domain, FetchError, err}
		}
		// A certificate that does not verify says more than an address that does not answer.
		if failed := (&Error{domain, failureOf(err), fmt.Errorf("%s: %w", addr, err)}); last == nil || last.Failure != WebPKIInvalid {
			last = failed
		}
		if ctx.Err() != nil {
			break
		}
	}
	return Policy{}, last
}

func failureOf(err error) Failure {
	if _, invalid := errors.AsType[*tls.CertificateVerificationError](err); invalid {
		return WebPKIInvalid
	}
	return FetchError
}

// answerError is an answer of the verified policy host that is no policy: its other addresses are not tried.
type answerError struct{ reason string }

func (e *answerError) Error() string { return e.reason }

// get fetches the policy from one address of the host.
func (f *Fetcher) get(ctx context.Context, host string, addr netip.Addr) ([]byte, error) {
	const https = 443
	port := f.Port
	if port == 0 {
		port = https
	}
	to := netip.AddrPortFrom(addr, port).String()
	transport := &http.Transport{
		Proxy: nil, // a proxy would resolve the name itself
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, to, &tls.Config{ServerName: host, RootCAs: f.Roots, MinVersion: tls.VersionTLS12})
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport: transport,
		// "HTTP 3xx redirects MUST NOT be followed."
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	at := url.URL{Scheme: "https", Host: host, Path: "/.well-known/mta-sts.txt"}
	if port != https {
		at.Host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "policyd")
	request.Header.Set("Accept", "text/plain")
	response, err := client.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the URL says nothing new
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if err := acceptable(response); err != nil {
		return nil, err
	}
	// ParsePolicy refuses what is longer than it may be.
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxPolicySize+1))
	if err == nil {
		// A host that sees us give up may end its answer in good order: what came until then is not all of it.
		err = ctx.Err()
	}
	return body, err
}

// dial connects and shakes hands. The transport has it done by a goroutine of its own, where a certificate that makes the
// library panic would end the daemon.
func dial(ctx context.Context, to string, config *tls.Config) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: connectTimeout}
	plain, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the TLS handshake: %v", p)
		}
		if err != nil {
			conn, _ = nil, plain.Close()
		}
	}()
	secured := tls.Client(plain, config)
	return secured, secured.HandshakeContext(ctx)
}

// acceptable checks all but the body, RFC 8461 sections 3.2 and 3.3.
func acceptable(response *http.Response) error {
	// "Policies fetched via HTTPS are only valid if the HTTP response code is 200 (OK)."
	if response.StatusCode != http.StatusOK {
		return &answerError{"the policy host answers HTTP status " + strconv.Itoa(response.StatusCode)}
	}
	// "Senders SHOULD validate that the media type is "text/plain" to guard against cases where web servers allow
	// untrusted users to host non-text content." Its parameters do not matter.
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || kind != "text/plain" {
		return &answerError{"the policy has a media type other than text/plain"}
	}
	if encoding := response.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return &answerError{"the policy is encoded, which nobody asked for"}
	}
	return nil
}

// addrs returns the addresses of a policy host that may be connected to, the families in turn.
func (f *Fetcher) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	ask := func(t resolver.Type) answer {
		rrset, err := f.Resolver.Lookup(ctx, resolver.Question{Name: host, Type: t, Passive: true})
		if err != nil {
			return answer{err: err}
		}
		return answer{addrs: rrset.Addrs}
	}
	six := make(chan answer, 1)
	go func() { six <- ask(resolver.TypeAAAA) }()
	v4 := ask(resolver.TypeA)
	v6 := <-six
	var list []netip.Addr
	special := false
	for i := range max(len(v4.addrs), len(v6.addrs)) {
		for _, family := range [][]netip.Addr{v4.addrs, v6.addrs} {
			switch {
			case i >= len(family) || len(list) == maxAddrs:
			case !f.Special && address.Special(family[i]):
				special = true
			default:
				list = append(list, family[i])
			}
		}
	}
	err := errors.Join(v4.err, v6.err)
	switch {
	case len(list) > 0:
		return list, nil
	case err != nil:
		return nil, err
	case special:
		return nil, errors.New("the policy host has special-purpose addresses only")
	}
	return nil, errors.New("the policy host has no address")
}
