package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/policyd/policyd/e2e/lab"
)

// people adds the receiver, the policy hosts and the authority that both have their certificates from.
func (s *scene) people(w *world) error {
	ca, err := lab.NewAuthority()
	if err != nil {
		return err
	}
	w.caFile = filepath.Join(s.dir, "ca.pem")
	if err := os.WriteFile(w.caFile, ca.PEM(), 0o600); err != nil {
		return err
	}
	if w.receiver, err = startReceiver(ca); err != nil {
		return err
	}
	s.atEnd(w.receiver.close)
	if !s.config.root {
		return nil
	}
	w.hosts = newPolicyHosts(s.loopback(), ca)
	s.atEnd(w.hosts.close)
	return w.hosts.open()
}

// receiver is an SMTP server that keeps the promise of implicit TLS, and takes no mail. Its address is not that of
// an interface, so that it is not taken for this host.
type receiver struct {
	addr     netip.AddrPort
	listener net.Listener
}

func startReceiver(ca *lab.Authority) (*receiver, error) {
	certificate, err := ca.Issue(smtpsHost, lab.Good)
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.9:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}})
	if err != nil {
		return nil, err
	}
	r := &receiver{addr: netip.MustParseAddrPort(l.Addr().String()), listener: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go receive(c)
		}
	}()
	return r, nil
}

func receive(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(c, "220 receiver\r\n") // who has hung up does not read it
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if verb, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " "); verb == "QUIT" {
			_, _ = io.WriteString(c, "221 bye\r\n")
			return
		}
		_, _ = io.WriteString(c, "250 receiver\r\n")
	}
}

func (r *receiver) close() error { return r.listener.Close() }

// policyHosts are the HTTPS server of the MTA-STS policies of any number of domains. Each domain enforces that its mail
// goes to mx.<domain>.
type policyHosts struct {
	addr netip.AddrPort
	ca   *lab.Authority

	mu           sync.Mutex
	certificates map[string]*tls.Certificate
	server       *http.Server
}

func newPolicyHosts(at netip.Addr, ca *lab.Authority) *policyHosts {
	return &policyHosts{addr: netip.AddrPortFrom(at, 443), ca: ca, certificates: map[string]*tls.Certificate{}}
}

// open starts to serve.
func (h *policyHosts) open() error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", h.addr.String())
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: h.certificate},
	}
	h.mu.Lock()
	h.server = server
	h.mu.Unlock()
	go func() {
		if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return nil
}

// close stops serving: connections are refused.
func (h *policyHosts) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil {
		return nil
	}
	return h.server.Close()
}

func (h *policyHosts) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.certificates[hello.ServerName]; c != nil {
		return c, nil
	}
	c, err := h.ca.Issue(hello.ServerName, lab.Good)
	if err == nil {
		h.certificates[hello.ServerName] = c
	}
	return c, err
}

// ServeHTTP answers with the policy of the domain.
func (h *policyHosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	domain, ok := strings.CutPrefix(r.Host, "mta-sts.")
	if !ok || r.URL.Path != "/.well-known/mta-sts.txt" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = fmt.Fprintf(w, "version: STSv1\r\nmode: enforce\r\nmx: mx.%s\r\nmax_age: 604800\r\n", domain)
}
