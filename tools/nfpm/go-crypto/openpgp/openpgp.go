// Package openpgp stands in for github.com/ProtonMail/go-crypto/openpgp, with which nfpm signs packages. policyd's
// packages are not signed by nfpm. The real package and the elliptic curves below it take a third of the time that nfpm
// takes to compile.
package openpgp

import (
	"errors"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrUnsupported is the error of every function.
var ErrUnsupported = errors.New("this nfpm does not sign packages: remove signature from nfpm.yaml")

// These have the fields that nfpm uses.
type (
	Entity struct {
		PrivateKey *packet.PrivateKey
		Subkeys    []Subkey
	}
	Subkey     struct{ PrivateKey *packet.PrivateKey }
	EntityList []*Entity
)

// ReadKeyRing would read keys.
func ReadKeyRing(io.Reader) (EntityList, error) { return nil, ErrUnsupported }

// ReadArmoredKeyRing would read keys as text.
func ReadArmoredKeyRing(io.Reader) (EntityList, error) { return nil, ErrUnsupported }

// DetachSign would sign.
func DetachSign(io.Writer, *Entity, io.Reader, *packet.Config) error { return ErrUnsupported }

// ArmoredDetachSign would sign as text.
func ArmoredDetachSign(io.Writer, *Entity, io.Reader, *packet.Config) error { return ErrUnsupported }

// CheckDetachedSignature would check a signature.
func CheckDetachedSignature(EntityList, io.Reader, io.Reader, *packet.Config) (*Entity, error) {
	return nil, ErrUnsupported
}

// CheckArmoredDetachedSignature would check a signature as text.
func CheckArmoredDetachedSignature(EntityList, io.Reader, io.Reader, *packet.Config) (*Entity, error) {
	return nil, ErrUnsupported
}
