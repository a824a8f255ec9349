package mtasts

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpproxy"
)

// throughProxy fetches the policy through the proxy that the environment names for its host, and reports whether there
// is one.
func (f *Fetcher) throughProxy(ctx context.Context, host string) (body []byte, used bool, err error) {
	if !f.ProxyFromEnvironment {
		return nil, false, nil
	}
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(f.url(host))
	switch {
	case err != nil:
		return nil, true, fmt.Errorf("HTTPS_PROXY: %w", err)
	case proxy == nil:
		return nil, false, nil
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), DialContext: dial, TLSClientConfig: f.config(host)}
	body, err = f.get(ctx, host, transport)
	if err != nil {
		err = fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	return body, true, err
}
