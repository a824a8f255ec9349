// Package roots reads the root certificates that policyd trusts, and notices when their files change.
//
// crypto/x509 reads the root certificates of the system once per process, so a daemon that used them would trust a
// removed authority until it is restarted.
package roots

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/policyd/policyd/internal/regfile"
)

// ErrNone means that a file has no certificate in PEM.
var ErrNone = errors.New("no certificate found")

// Set is a set of root certificates. It does not change; Load returns a new one.
type Set struct {
	// Pool has the certificates. It is never nil, so that crypto/x509 does not fall back to its own set.
	Pool *x509.CertPool
	// Empty is set if there are no certificates at all, so that nothing can be verified.
	Empty  bool
	caFile string
	stamp  string
}

// Load reads a PEM file, or the root certificates of the system if caFile is "". A system without root certificates is
// not an error. For a file the errors are those of regfile.Read and ErrNone.
func Load(caFile string) (*Set, error) {
	s := &Set{caFile: caFile, Pool: x509.NewCertPool(), Empty: true}
	files := s.sources()
	s.stamp = stamp(files)
	if caFile == "" && runtime.GOOS == "darwin" { // the verifier of the system, without files
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		s.Pool, s.Empty = pool, false
		return s, nil
	}
	for _, path := range files {
		pem, err := regfile.Read(path)
		if err != nil && caFile != "" {
			return nil, err
		}
		if s.Pool.AppendCertsFromPEM(pem) { // what cannot be read is not trusted
			s.Empty = false
		}
	}
	if s.Empty && caFile != "" {
		return nil, ErrNone
	}
	return s, nil
}

// Changed reports whether the files have changed since Load read them.
func (s *Set) Changed() bool { return s.stamp != stamp(s.sources()) }

// sources returns the files to read. For the system they are those of crypto/x509: the first bundle that exists, and
// all files in the directories; SSL_CERT_FILE and SSL_CERT_DIR replace them.
func (s *Set) sources() (list []string) {
	if s.caFile != "" {
		return []string{s.caFile}
	}
	bundles := []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", // Debian, Fedora
		"/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem", // openSUSE, OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem", // RHEL, Alpine and OpenBSD
		"/usr/local/etc/ssl/cert.pem", "/usr/local/share/certs/ca-root-nss.crt", // FreeBSD, DragonFly
		"/etc/openssl/certs/ca-certificates.crt", // NetBSD
	}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		bundles = []string{file}
	}
	for _, path := range bundles {
		if _, err := os.Stat(path); err == nil { //nolint:gosec // the operator names the file in SSL_CERT_FILE
			list = append(list, path)
			break
		}
	}
	directories := []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/usr/local/share/certs", "/etc/openssl/certs"}
	if dirs := os.Getenv("SSL_CERT_DIR"); dirs != "" {
		directories = filepath.SplitList(dirs)
	}
	for _, dir := range directories {
		entries, _ := os.ReadDir(dir) // a directory that does not exist has no files
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			// Names by hash point to another file of the same directory.
			if target, err := os.Readlink(path); err == nil && !strings.Contains(target, "/") {
				continue
			}
			list = append(list, path)
		}
	}
	return list
}

// stamp describes the state of files: it changes when one of them does.
func stamp(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
