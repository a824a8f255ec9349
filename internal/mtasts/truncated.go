package mtasts

import (
	"errors"
	"io"
	"net"
)

// errTruncated means that a TCP connection ended without a TLS close_notify alert.
var errTruncated = errors.New("connection closed without a TLS close_notify alert")

// noEOF is a TCP connection below TLS. A client that sees it end has not received close_notify, and an attacker on the
// path may have cut the connection: a response without Content-Length and without chunks is then incomplete (RFC 9112
// section 9.8). crypto/tls reports io.EOF for both ends, so Read returns errTruncated for this one.
type noEOF struct{ net.Conn }

func (c noEOF) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		err = errTruncated
	}
	return n, err
}
