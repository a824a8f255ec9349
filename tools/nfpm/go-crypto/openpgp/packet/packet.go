// Package packet has the types of the keys and settings that nfpm passes to package openpgp.
package packet

import (
	"crypto"
	"errors"
)

// These have the fields that nfpm uses.
type (
	Config struct {
		SigningKeyId uint64 //nolint:revive // the name in the real package
		DefaultHash  crypto.Hash
	}
	PrivateKey struct{ Encrypted bool }
)

// CanSign reports that no key can sign.
func (*PrivateKey) CanSign() bool { return false }

// Decrypt would decrypt the key.
func (*PrivateKey) Decrypt([]byte) error { return errors.ErrUnsupported }
