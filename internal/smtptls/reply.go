package smtptls

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// The bounds on replies. Like smtp(8), readReply ignores what is beyond maxLine octets of a line, and the lines after
// the first maxText octets of a reply; RFC 5321 section 4.5.3.1.5 allows 512 octets per line.
const (
	maxLine = 2048
	maxText = 2048
	// maxBytes bounds a whole connection, TLS records included.
	maxBytes = 1 << 20
	maxWhy   = 300
)

// ErrTooLong is the error of a server that sent more than 1 MiB in one connection.
var ErrTooLong = errors.New("more than 1 MiB in one connection")

// Reply is an SMTP reply, RFC 5321 section 4.2.
type Reply struct {
	// Code is 0 for no reply.
	Code int
	// Lines are the texts after the code, in printable ASCII.
	Lines []string
}

// String returns the code and the first line.
func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	if len(r.Lines) == 0 || r.Lines[0] == "" {
		return strconv.Itoa(r.Code)
	}
	return Tidy(fmt.Sprintf("%03d %s", r.Code, r.Lines[0]))
}

// positive reports whether the reply has a 2yz code. Postfix asks for no more where the RFC names one code.
func (r Reply) positive() bool { return r.Code/100 == 2 }

// keyword returns the first line of an EHLO reply that offers a service extension, RFC 5321 section 4.1.1.1, or -1.
// Line 0 is for the name of the server. Like in Postfix, "=" ends a keyword as well.
func (r Reply) keyword(k string) int {
	if !r.positive() {
		return -1
	}
	return slices.IndexFunc(r.Lines, func(line string) bool {
		words := strings.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(" \t=", c) })
		return len(words) > 0 && strings.EqualFold(words[0], k)
	})
}

// readReply reads one reply as smtp(8) does: it ends with a line of three digits and a space, or nothing; every other
// line continues it, and the code is that of the last line. r has a buffer of maxLine octets.
func readReply(r *bufio.Reader) (Reply, error) {
	var reply Reply
	for kept := 0; ; {
		line, err := readLine(r)
		if err != nil {
			return Reply{}, err
		}
		code, separator := parseLine(line)
		if kept < maxText {
			kept += len(line)
			if separator != 0 {
				line = line[min(len("250-"), len(line)):]
			}
			reply.Lines = append(reply.Lines, text.Printable(line))
		}
		if separator == ' ' {
			reply.Code = code
			return reply, nil
		}
	}
}

// readLine reads a line without its end, cut after maxLine octets.
func readLine(r *bufio.Reader) (string, error) {
	piece, err := r.ReadSlice('\n')
	line := string(piece)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && line != "" {
		err = fmt.Errorf("connection closed within a reply: %w", io.ErrUnexpectedEOF)
	}
	return strings.TrimRight(line, "\r\n"), err
}

// parseLine returns the code of a reply line and the character after it, '-' or ' '. The end of the line counts as a
// space. Both are 0 if the line has no code.
func parseLine(s string) (code int, separator byte) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits != len("250") {
		return 0, 0
	}
	code, _ = strconv.Atoi(s[:digits]) // three digits
	switch {
	case len(s) == digits, s[digits] == ' ':
		return code, ' '
	case s[digits] == '-':
		return code, '-'
	}
	return code, 0
}

// Tidy returns the beginning of s in printable ASCII, fit for a log line.
func Tidy(s string) string { return text.Printable(s[:min(len(s), maxWhy)]) }
