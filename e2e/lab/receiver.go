package lab

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// Behaviour is what a port of a receiver does.
type Behaviour uint8

// The behaviours. The zero value is a closed port.
const (
	Closed    Behaviour = iota
	STARTTLS            // plaintext first, with STARTTLS in the EHLO reply
	Clear               // SMTP without STARTTLS, or with STARTTLS stripped by an attacker
	Refuses             // STARTTLS in the EHLO reply, but the reply to the command is 454
	Implicit            // TLS from the first byte
	StallsTLS           // TCP and, on 25, the 220 to STARTTLS; then no byte of the handshake
	BlackHole           // no answer even to the SYN
)

// Receiver is the SMTP server of one MX host. It behaves the same on all its addresses.
type Receiver struct {
	Name  string
	Addrs []netip.Addr

	mu           sync.Mutex
	open         map[int][]func() // closes what is open, by port
	certificates map[int]*tls.Certificate
	served       []*smtptest.Receiver // on all ports so far
}

// NewReceiver returns a receiver with all ports closed.
func NewReceiver(name string, addrs []netip.Addr) *Receiver {
	return &Receiver{Name: name, Addrs: addrs, open: map[int][]func(){}, certificates: map[int]*tls.Certificate{}}
}

// Serve changes the behaviour and the certificate of a port and closes its connections.
func (r *Receiver) Serve(port int, behaviour Behaviour, certificate *tls.Certificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(port)
	r.certificates[port] = certificate
	b := smtptest.Behaviour{Cert: certificate, Implicit: behaviour == Implicit}
	switch behaviour {
	case Closed:
		return nil
	case Clear:
		b.Cert = nil
	case Refuses:
		b.STARTTLS = "454 4.7.0 TLS not available"
	case StallsTLS:
		b.Stall, b.Implicit = "handshake", port != 25
	case STARTTLS, Implicit, BlackHole:
	}
	return must.Catch(func() {
		for _, a := range r.Addrs {
			at := netip.AddrPortFrom(a, uint16(port)).String()
			if behaviour == BlackHole {
				r.dig(port, at)
				continue
			}
			l := must.Get(smtptest.Listen(at, b))
			r.served, r.open[port] = append(r.served, l), append(r.open[port], l.Close)
		}
	})
}

// dig listens on a port with a full backlog, so that Linux drops every further SYN, as a packet filter does.
func (r *Receiver) dig(port int, at string) {
	l := must.Get(net.Listen("tcp", at)).(*net.TCPListener)
	r.open[port] = append(r.open[port], func() { _ = l.Close() })
	must.Do(must.Get(l.SyscallConn()).Control(func(fd uintptr) { must.Do(unix.Listen(int(fd), 0)) }))
	for {
		c, full := net.DialTimeout("tcp", at, 500*time.Millisecond) // a busy machine needs some
		if full != nil {
			return
		}
		r.open[port] = append(r.open[port], func() { _ = c.Close() })
	}
}

// Certificate returns the certificate of a port.
func (r *Receiver) Certificate(port int) *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.certificates[port]
}

// end closes a port; r.mu is held.
func (r *Receiver) end(port int) {
	for _, end := range r.open[port] {
		end()
	}
	delete(r.open, port)
}

// Close closes all ports.
func (r *Receiver) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for port := range r.open {
		r.end(port)
	}
}

// Sessions returns a copy of the connections so far.
func (r *Receiver) Sessions() (all []smtptest.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, served := range r.served {
		all = append(all, served.Sessions()...)
	}
	return all
}

// Seen reports whether text ever crossed the wire to the receiver in plaintext.
func (r *Receiver) Seen(text string) bool {
	return slices.ContainsFunc(r.Sessions(), func(s smtptest.Session) bool {
		return bytes.Contains(bytes.ToLower(s.Raw), bytes.ToLower([]byte(text)))
	})
}

// Got returns the sessions that accepted a mail with text in it.
func (r *Receiver) Got(text string) []smtptest.Session {
	return slices.DeleteFunc(r.Sessions(), func(s smtptest.Session) bool {
		return !slices.ContainsFunc(s.Mails, func(mail string) bool { return strings.Contains(mail, text) })
	})
}

// Flaw is what is wrong with a certificate.
type Flaw uint8

// The flaws. The zero value is a good certificate.
const (
	Good Flaw = iota
	OtherName
	SelfSigned
	ExpiredCert
	AnyUse         // extended key usage any: Go accepts it, Postfix does not
	NonRepudiation // a key usage that does not allow TLS: the same
)

// Issue makes a certificate for name with one flaw.
func Issue(ca *smtptest.CA, name string, f Flaw) *tls.Certificate {
	leaf := smtptest.Leaf{CommonName: name, Names: []string{name}, SelfSigned: f == SelfSigned}
	switch f {
	case OtherName:
		leaf.CommonName, leaf.Names = "another-name.test", []string{"another-name.test"}
	case ExpiredCert:
		leaf.NotBefore, leaf.NotAfter = time.Now().AddDate(0, 0, -2), time.Now().AddDate(0, 0, -1)
	case AnyUse:
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	case NonRepudiation:
		leaf.KeyUsage = x509.KeyUsageContentCommitment
	case Good, SelfSigned:
	}
	c := ca.Issue(Must{}, leaf)
	return &c
}

// Must ends the program when something fails that cannot fail, such as a signature with a new key.
type Must struct{}

// Helper does nothing.
func (Must) Helper() {}

// Fatal ends the program.
func (Must) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
