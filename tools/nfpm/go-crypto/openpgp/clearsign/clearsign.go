// Package clearsign stands in for the package of the same name, see package openpgp.
package clearsign

import (
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Block has the fields that nfpm uses.
type Block struct{ Plaintext []byte }

// Encode would sign a text.
func Encode(io.Writer, *packet.PrivateKey, *packet.Config) (io.WriteCloser, error) {
	return nil, openpgp.ErrUnsupported
}

// Decode would parse a signed text.
func Decode([]byte) (*Block, []byte) { return &Block{}, nil }

// VerifySignature would check the signature.
func (*Block) VerifySignature(openpgp.EntityList, *packet.Config) (*openpgp.Entity, error) {
	return nil, openpgp.ErrUnsupported
}
