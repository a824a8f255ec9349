package lab

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// PolicyHost is the HTTPS server of MTA-STS policies (RFC 8461 section 3.3), of one domain or of several.
type PolicyHost struct {
	addr      netip.AddrPort
	authority *smtptest.CA

	server *http.Server

	mu     sync.Mutex
	policy func(domain string) string
}

// NewPolicyHost returns a policy host that is not open yet. policy returns the policy of a domain.
func NewPolicyHost(addr netip.AddrPort, ca *smtptest.CA, policy func(domain string) string) *PolicyHost {
	return &PolicyHost{addr: addr, authority: ca, policy: policy}
}

// STS returns a policy with a mode and mx patterns.
func STS(mode string, mx ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", mode)
	for _, m := range mx {
		fmt.Fprintf(&b, "mx: %s\r\n", m)
	}
	b.WriteString("max_age: 604800\r\n")
	return b.String()
}

// PolicyHost adds the policy host of a domain, and announces an id with a TTL of a second: changes are seen soon.
func (l *Lab) PolicyHost(domain, id, policy string) *PolicyHost {
	number := len(l.webs) + 1
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 30 + byte(number>>8), byte(number), 1}), 443)
	h := NewPolicyHost(addr, l.Authority, func(string) string { return policy })
	l.webs = append(l.webs, h)
	l.Records(fmt.Sprintf("mta-sts.%s. A %s", domain, addr.Addr()),
		fmt.Sprintf("_mta-sts.%s. 1 TXT %q", domain, Announcement(id)))
	must.Do(h.Open())
	return h
}

// Announcement is the text of the TXT record (RFC 8461 section 3.1).
func Announcement(id string) string { return "v=STSv1; id=" + id + ";" }

// Set replaces the policy.
func (h *PolicyHost) Set(policy string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policy = func(string) string { return policy }
}

// ServeHTTP answers with the policy.
func (h *PolicyHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/.well-known/mta-sts.txt" {
		http.NotFound(w, r)
		return
	}
	h.mu.Lock()
	policy := h.policy(strings.TrimPrefix(r.Host, "mta-sts."))
	h.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, policy)
}

// Open starts to serve.
func (h *PolicyHost) Open() error {
	l, err := net.Listen("tcp", h.addr.String())
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	h.server = &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return Issue(h.authority, hello.ServerName, Good), nil
			}},
	}
	go func(s *http.Server) { _ = s.ServeTLS(l, "", "") }(h.server) // until Close
	return nil
}

// Close stops serving: connections are refused.
func (h *PolicyHost) Close() {
	if h.server != nil {
		_ = h.server.Close()
	}
}
