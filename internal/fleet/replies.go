package fleet

import (
	"bytes"
	"errors"
	"net"
	"strconv"
)

// Bounds of one reply of the server. The client allocates memory for the announced length of a string or an array
// before the content has arrived, and reads nested arrays by recursion.
const (
	maxString = maxData + 1024
	// maxElements bounds the elements that are still to come, maxArrays the arrays: SCAN replies with about 1,000 keys,
	// and an exchange reads at most 250 entries of the stream.
	maxElements = 1 << 16
	maxArrays   = 1 << 12
	maxOctets   = 64 << 20
	maxLine     = 64 << 10
)

var errReply = errors.New("the reply of the server is too large or malformed")

// replies is a connection to the server that breaks as soon as a reply exceeds the bounds: the server must not be able
// to make this process run out of memory or of stack. It reads versions 2 and 3 of the protocol, RESP: the client
// speaks version 3 with a Sentinel.
type replies struct {
	net.Conn
	line                     []byte // read of this reply so far
	skip                     int    // octets of the string that is being read
	elements, arrays, octets int    // elements still to come; arrays and octets so far
}

// Read implements net.Conn.
func (c *replies) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.check(b[:n]) {
		return 0, errReply
	}
	return n, err
}

// check follows what the server sends. It returns false when a bound is exceeded.
func (c *replies) check(b []byte) bool {
	for len(b) > 0 {
		n := min(c.skip, len(b)) // octets of a string, or otherwise of a line
		c.skip -= n
		if n == 0 {
			n = len(b)
			if end := bytes.IndexByte(b, '\n'); end >= 0 {
				n = min(end+1, maxLine)
			}
			c.line = append(c.line, b[:n]...)
		}
		c.octets += n
		lineEnds := len(c.line) > 0 && b[n-1] == '\n'
		b = b[n:]
		if c.octets > maxOctets || len(c.line) > maxLine || lineEnds && !c.element() {
			return false
		}
	}
	return true
}

// element reads the line with which an element of a reply begins.
func (c *replies) element() bool {
	kind, text := c.line[0], string(bytes.TrimSpace(c.line[1:]))
	c.line = c.line[:0]
	if c.elements == 0 {
		c.elements, c.arrays, c.octets = 1, 0, 0
	}
	c.elements--
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return true
	case '$', '=', '!', '*', '~', '>', '%', '|':
	default:
		return false
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < -1:
		return false
	case n == -1:
		return true
	case kind == '$', kind == '=', kind == '!':
		const end = 2 // CR and LF
		c.skip = n + end
		return n <= maxString
	}
	c.arrays++
	c.elements += n
	if kind == '%' || kind == '|' { // pairs
		c.elements += n
	}
	if kind == '|' { // it precedes an element
		c.elements++
	}
	return n <= maxElements && c.elements <= maxElements && c.arrays <= maxArrays
}
