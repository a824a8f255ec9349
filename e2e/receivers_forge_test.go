//go:build e2e

package e2e

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// forge makes certificates for receivers. The names of CAs are unique, so that one file can hold all roots.
type forge struct {
	t     *testing.T
	host  string
	n     int
	roots []*x509.Certificate // to trust
}

type cert struct {
	*x509.Certificate
	key crypto.Signer
}

type change = func(*x509.Certificate)

var serial atomic.Int64

// issue makes a certificate from a template that changes may alter; parent nil makes it self-signed.
func (f *forge) issue(template *x509.Certificate, key crypto.Signer, parent *cert, changes ...change) *cert {
	f.t.Helper()
	template.SerialNumber = big.NewInt(serial.Add(1))
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(0, 0, 90)
	for _, c := range changes {
		c(template)
	}
	by := parent
	if by == nil {
		by = &cert{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, key.Public(), by.key)
	require.NoError(f.t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(f.t, err)
	return &cert{c, key}
}

func (f *forge) ecKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f.t, err)
	return key
}

func (f *forge) rsaKey(bits int) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(f.t, err)
	return key
}

// ca makes a CA; parent nil makes a root and trusts it.
func (f *forge) ca(parent *cert, changes ...change) *cert {
	f.n++
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: fmt.Sprintf("CA %d of %s", f.n, f.host)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c := f.issue(template, f.ecKey(), parent, changes...)
	if parent == nil {
		f.roots = append(f.roots, c.Certificate)
	}
	return c
}

// leaf makes a certificate for the host.
func (f *forge) leaf(parent *cert, changes ...change) *cert {
	return f.leafOf(f.ecKey(), parent, changes...)
}

func (f *forge) leafOf(key crypto.Signer, parent *cert, changes ...change) *cert {
	return f.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "receiver"}, DNSNames: []string{f.host}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key, parent, changes...)
}

// chain is what a receiver sends.
func chain(leaf *cert, others ...*cert) *tls.Certificate {
	c := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leaf.key}
	for _, o := range others {
		c.Certificate = append(c.Certificate, o.Raw)
	}
	return c
}

// Changes of a template.

func eku(uses ...x509.ExtKeyUsage) change { return func(t *x509.Certificate) { t.ExtKeyUsage = uses } }
func ku(use x509.KeyUsage) change         { return func(t *x509.Certificate) { t.KeyUsage = use } }
func names(n ...string) change            { return func(t *x509.Certificate) { t.DNSNames = n } }
func valid(from, to time.Duration) change {
	return func(t *x509.Certificate) { t.NotBefore, t.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

// with adds an extension; oid is a number below 2.5.29, or complete.
func with(critical bool, value any, oid ...int) change {
	if len(oid) == 1 {
		oid = []int{2, 5, 29, oid[0]}
	}
	der, ok := value.([]byte)
	if !ok {
		der, _ = asn1.Marshal(value) // values of these tests
	}
	return func(t *x509.Certificate) {
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: der})
	}
}

// akid is an authority key identifier.
func akid(key []byte, issuer *x509.Certificate) change {
	var id struct {
		Key    []byte        `asn1:"optional,tag:0"`
		Names  asn1.RawValue `asn1:"optional"`
		Serial *big.Int      `asn1:"optional,tag:2"`
	}
	id.Key = key
	if issuer != nil {
		name, _ := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: issuer.RawIssuer})
		id.Names, id.Serial = asn1.RawValue{Class: 2, Tag: 1, IsCompound: true, Bytes: name}, issuer.SerialNumber
	}
	return with(false, id, 35)
}

// onlyDirectory permits one directory name.
func onlyDirectory(name string, critical bool) change {
	dn, _ := asn1.Marshal(pkix.Name{Organization: []string{name}}.ToRDNSequence())
	base, _ := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 4, IsCompound: true, Bytes: dn})
	tree, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: base})
	list, _ := asn1.Marshal(asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: tree})
	der, _ := asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: list})
	return with(critical, der, 30)
}

func (f *forge) openssl(dir string, args ...string) {
	f.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(f.t, err, "openssl %v: %s", args, out)
}

// opensslLeaf makes a certificate with a key that crypto/x509 does not have, and returns the directory of leaf.pem and
// leaf.key. keygen are arguments of openssl genpkey.
func (f *forge) opensslLeaf(more []string, keygen ...string) string {
	dir := f.t.TempDir()
	f.openssl(dir, append([]string{"genpkey", "-out", "leaf.key"}, keygen...)...)
	f.openssl(dir, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ca.key")
	f.openssl(dir, "req", "-x509", "-key", "ca.key", "-subj", "/CN=OpenSSL CA of "+f.host, "-days", "30", "-out", "ca.pem")
	f.openssl(dir, "req", "-new", "-key", "leaf.key", "-subj", "/CN=receiver", "-out", "leaf.csr")
	require.NoError(f.t, os.WriteFile(filepath.Join(dir, "ext"), []byte("subjectAltName=DNS:"+f.host+"\nextendedKeyUsage=serverAuth\n"), 0o600))
	f.openssl(dir, append([]string{"x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30", "-extfile", "ext", "-out", "leaf.pem"}, more...)...)
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	require.NoError(f.t, err)
	pool, err := x509.ParseCertificate(firstPEM(pem))
	require.NoError(f.t, err)
	f.roots = append(f.roots, pool)
	return dir
}

// opensslTLS returns a TLS server that uses openssl s_server, for what crypto/tls does not support. The plaintext of
// each connection goes through a process of its own.
func (f *forge) opensslTLS(dir string, args ...string) func(net.Conn) net.Conn {
	var n atomic.Int64
	return func(wire net.Conn) net.Conn {
		name := fmt.Sprintf("s%d", n.Add(1)) // openssl refuses long paths
		cmd := exec.Command("openssl", append([]string{"s_server", "-unix", name, "-naccept", "1", "-quiet", "-cert", "leaf.pem", "-key", "leaf.key"}, args...)...)
		cmd.Dir = dir
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if cmd.Start() != nil {
			return nil
		}
		var side net.Conn
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(10 * time.Second); side == nil && time.Now().Before(end); <-tick.C {
			side, _ = net.Dial("unix", filepath.Join(dir, name)) // openssl does not report when it listens
		}
		if side == nil {
			_ = cmd.Process.Kill()
			return nil
		}
		go pipe(side, wire)
		go pipe(wire, side)
		return &processConn{Conn: wire, in: in, out: out, cmd: cmd}
	}
}

// processConn reads and writes the plaintext of a connection through a process.
type processConn struct {
	net.Conn // the wire
	in       io.WriteCloser
	out      io.ReadCloser
	cmd      *exec.Cmd
}

func (c *processConn) Read(b []byte) (int, error)  { return c.out.Read(b) }
func (c *processConn) Write(b []byte) (int, error) { return c.in.Write(b) }
func (c *processConn) Close() error {
	_ = c.in.Close()
	_ = c.Conn.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // it was killed
	return nil
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

func firstPEM(text []byte) []byte {
	block, _ := pem.Decode(text)
	return block.Bytes
}

// oldTLS is a TLS 1.2 server without the extension of RFC 5746, which every library now includes: RSA key exchange with
// AES-128-GCM. It ends after the handshake.
func oldTLS(leaf *cert) func(net.Conn) net.Conn {
	return func(conn net.Conn) net.Conn {
		var transcript []byte
		message := func(kind byte, body ...[]byte) []byte {
			all := bytes.Join(body, nil)
			return append([]byte{kind, byte(len(all) >> 16), byte(len(all) >> 8), byte(len(all))}, all...)
		}
		send := func(kind byte, body []byte) error {
			_, err := conn.Write(append([]byte{kind, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...))
			return err
		}
		read := func() []byte {
			header := make([]byte, 5)
			if _, err := io.ReadFull(conn, header); err != nil {
				return nil
			}
			body := make([]byte, int(header[3])<<8|int(header[4]))
			if _, err := io.ReadFull(conn, body); err != nil {
				return nil
			}
			return body
		}
		hello := read()
		if len(hello) < 40 {
			return nil
		}
		random := bytes.Repeat([]byte{7}, 32)
		der := leaf.Raw
		list := append([]byte{byte(len(der) >> 16), byte(len(der) >> 8), byte(len(der))}, der...)
		flight := bytes.Join([][]byte{
			message(2, []byte{3, 3}, random, []byte{0, 0x00, 0x9c, 0}), // TLS_RSA_WITH_AES_128_GCM_SHA256
			message(11, []byte{byte(len(list) >> 16), byte(len(list) >> 8), byte(len(list))}, list),
			message(14),
		}, nil)
		if send(22, flight) != nil {
			return nil
		}
		exchange := read()
		if len(exchange) < 6 || exchange[0] != 16 {
			return nil
		}
		//nolint:staticcheck // the key exchange of such servers needs it
		secret, err := rsa.DecryptPKCS1v15(nil, leaf.key.(*rsa.PrivateKey), exchange[6:])
		if err != nil {
			return nil
		}
		transcript = bytes.Join([][]byte{hello, flight, exchange}, nil)
		prf := func(secret []byte, label string, seed []byte, n int) []byte {
			full := append([]byte(label), seed...)
			mac := func(parts ...[]byte) []byte {
				h := hmac.New(sha256.New, secret)
				for _, p := range parts {
					h.Write(p)
				}
				return h.Sum(nil)
			}
			var out []byte
			for a := mac(full); len(out) < n; a = mac(a) {
				out = append(out, mac(a, full)...)
			}
			return out[:n]
		}
		master := prf(secret, "master secret", append(bytes.Clone(hello[6:38]), random...), 48)
		keys := prf(master, "key expansion", append(bytes.Clone(random), hello[6:38]...), 40)
		aead := func(key, salt []byte) (cipher.AEAD, []byte) {
			block, _ := aes.NewCipher(key)
			gcm, _ := cipher.NewGCM(block)
			return gcm, salt
		}
		opener, clientSalt := aead(keys[:16], keys[32:36])
		sealer, serverSalt := aead(keys[16:32], keys[36:40])
		read() // ChangeCipherSpec
		finished := read()
		if len(finished) < 8 {
			return nil
		}
		extra := func(n int) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, 0, 22, 3, 3, byte(n >> 8), byte(n)} }
		plain, err := opener.Open(nil, append(bytes.Clone(clientSalt), finished[:8]...), finished[8:], extra(len(finished)-8-16))
		if err != nil {
			return nil
		}
		sum := sha256.Sum256(append(transcript, plain...))
		end := message(20, prf(master, "server finished", sum[:], 12))
		nonce := make([]byte, 8)
		sealed := sealer.Seal(nonce, append(bytes.Clone(serverSalt), nonce...), end, extra(len(end)))
		_ = send(20, []byte{1})
		_ = send(22, sealed)
		return nil // the handshake is complete; the connection is closed without a greeting
	}
}
