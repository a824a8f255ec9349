package socketmap

import (
	"bufio"
	"errors"
	"io"
	"strconv"
)

// AppendNetstring appends payload to dst as a netstring: "<length>:<payload>,".
func AppendNetstring[T string | []byte](dst []byte, payload T) []byte {
	dst = strconv.AppendInt(dst, int64(len(payload)), 10)
	dst = append(dst, ':')
	dst = append(dst, payload...)
	return append(dst, ',')
}

// ReadNetstring reads one netstring with at most limit bytes of payload. The error is a [*ProtocolError] as soon as the
// bytes cannot become such a netstring, io.EOF at the end of r, and io.ErrUnexpectedEOF in the middle of a netstring.
func ReadNetstring(r *bufio.Reader, limit int) (string, error) {
	size, digits := 0, 0
	for {
		c, err := r.ReadByte()
		switch {
		case err != nil && digits == 0:
			return "", err
		case err != nil:
			return "", unexpected(err)
		case c == ':' && digits > 0:
			return readPayload(r, size)
		case c < '0' || c > '9', digits > 0 && size == 0:
			return "", &ProtocolError{"not a netstring"}
		}
		size = 10*size + int(c-'0')
		digits++
		if size > limit {
			return "", &ProtocolError{"netstring over " + strconv.Itoa(limit) + " bytes"}
		}
	}
}

// readPayload reads size bytes and the comma.
func readPayload(r *bufio.Reader, size int) (string, error) {
	if whole, _ := r.Peek(min(r.Buffered(), size+1)); len(whole) == size+1 && whole[size] == ',' {
		payload := string(whole[:size])
		_, err := r.Discard(size + 1)
		return payload, err
	}
	whole := make([]byte, size+1)
	if _, err := io.ReadFull(r, whole); err != nil {
		return "", unexpected(err)
	}
	if whole[size] != ',' {
		return "", &ProtocolError{"missing comma after a netstring"}
	}
	return string(whole[:size]), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
