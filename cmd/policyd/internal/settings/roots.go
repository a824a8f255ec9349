package settings

import (
	"crypto/x509"
	"slices"
	"strings"

	"github.com/policyd/policyd/internal/roots"
)

// readRoots reads the root certificates of ca_file, or of the system.
func (l *Loaded) readRoots() error {
	set, err := roots.Load(l.TLS.CAFile)
	if err != nil {
		return err
	}
	l.roots, l.Roots = set, set.Pool
	return nil
}

// RootsChanged reports whether the files with the root certificates have changed since they were read.
func (l *Loaded) RootsChanged() bool { return l.roots.Changed() }

// WithNewRoots returns the same settings with the root certificates read again. The error is the reason why they cannot
// be used; it is roots.ErrNone if there are none.
func (l *Loaded) WithNewRoots() (*Loaded, error) {
	next := *l
	if err := next.readRoots(); err != nil {
		return nil, err
	}
	if next.roots.Empty {
		return nil, roots.ErrNone
	}
	return &next, nil
}

// resolverRoots returns the root certificates for DNS over TLS, nil if no server needs them: they are a part of the
// trust in the servers, and a change of them voids all cached answers.
func (l *Loaded) resolverRoots() *x509.CertPool {
	if slices.ContainsFunc(l.DNS.Servers, func(s string) bool { return strings.HasPrefix(s, "tls://") }) {
		return l.Roots
	}
	return nil
}
