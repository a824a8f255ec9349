package socketmap

import (
	"bufio"
	"errors"
	"io"
	"strconv"
)

// ErrNetstring says that what was read is no netstring, or one that is too long. The connection is
// no longer in step: close it.
var ErrNetstring = errors.New("socketmap: malformed netstring")

// AppendNetstring appends payload as a netstring: "<length>:<payload>,".
func AppendNetstring(dst []byte, payload string) []byte {
	dst = strconv.AppendInt(dst, int64(len(payload)), 10)
	dst = append(dst, ':')
	dst = append(dst, payload...)
	return append(dst, ',')
}

// ReadNetstring reads one netstring of at most limit bytes of payload. It returns ErrNetstring for
// anything else, io.EOF where there is nothing more to read, and io.ErrUnexpectedEOF in the middle.
func ReadNetstring(r *bufio.Reader, limit int) (string, error) {
	buf := make([]byte, 0, 64)
	for {
		size, err := measure(buf, limit)
		switch {
		case err != nil:
			return "", err
		case size > 0 && len(buf) == size:
			payload, err := payloadOf(buf)
			return string(payload), err
		case size > 0:
			rest := make([]byte, size-len(buf))
			if _, err := io.ReadFull(r, rest); err != nil {
				return "", unexpected(err)
			}
			buf = append(buf, rest...)
			continue
		}
		c, err := r.ReadByte()
		if err != nil {
			if len(buf) > 0 {
				err = unexpected(err)
			}
			return "", err
		}
		buf = append(buf, c)
	}
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// measure returns the size of the whole netstring that buf begins with, 0 if that cannot be told yet, or
// ErrNetstring as soon as it cannot become one of at most limit bytes.
func measure(buf []byte, limit int) (int, error) {
	n := 0
	for i, c := range buf {
		switch {
		case c == ':' && i > 0:
			return i + 1 + n + 1, nil
		case c < '0' || c > '9', i > 0 && buf[0] == '0':
			return 0, ErrNetstring
		}
		n = 10*n + int(c-'0')
		if n > limit {
			return 0, ErrNetstring
		}
	}
	return 0, nil
}

// payloadOf returns the payload of a whole netstring, ErrNetstring if its comma is missing.
func payloadOf(whole []byte) ([]byte, error) {
	for i, c := range whole {
		if c == ':' {
			if whole[len(whole)-1] != ',' {
				return nil, ErrNetstring
			}
			return whole[i+1 : len(whole)-1], nil
		}
	}
	return nil, ErrNetstring
}
