// Package roots reads the root certificates that policyd trusts, and notices when their files change.
//
// crypto/x509 reads the root certificates of the system once per process, so a daemon that used them would trust a
// removed authority until it is restarted.
package roots

import (
	"crypto/x509"
	"errors"

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
func Load(caFile string) (Set, error) {
	s := Set{caFile: caFile, Pool: x509.NewCertPool(), Empty: true}
	files := s.sources()
	s.stamp = stamp(files)
	for _, path := range files {
		pem, err := regfile.Read(path)
		if err != nil && caFile != "" {
			return Set{}, err
		}
		if s.Pool.AppendCertsFromPEM(pem) { // what cannot be read is not trusted
			s.Empty = false
		}
	}
	if s.Empty && caFile != "" {
		return Set{}, ErrNone
	}
	return s, nil
}
