package smtptls

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// The bounds on what a stranger's server may say. RFC 5321 section 4.5.3.1.5 allows 512 octets a line;
// Postfix takes 2,048.
const (
	maxLine  = 2048
	maxLines = 128
	maxReply = 64 << 10
	// maxBytes bounds a whole connection, TLS records and all.
	maxBytes = 1 << 20
	maxText  = 300
)

// ErrNotSMTP is the error of a reply that breaks the grammar of RFC 5321 section 4.2, or a bound. The
// dialogue ends with it.
var ErrNotSMTP = errors.New("not an SMTP reply")

// Reply is an SMTP reply, RFC 5321 section 4.2.
type Reply struct {
	// Code is 200 to 599; 0 for no reply.
	Code int
	// Lines are the texts after the code: printable ASCII, what is not replaced by "?".
	Lines []string
}

// String returns the code and the first line.
func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	text := ""
	if len(r.Lines) > 0 && r.Lines[0] != "" {
		text = " " + r.Lines[0]
	}
	return Tidy(fmt.Sprint(r.Code) + text)
}

// keyword says whether an EHLO reply offers a service extension, RFC 5321 section 4.1.1.1.
func (r Reply) keyword(k string) bool {
	for i, line := range r.Lines {
		word, _, _ := strings.Cut(line, " ")
		if i > 0 && strings.EqualFold(word, k) {
			return true
		}
	}
	return false
}

// readReply reads one reply. r has a buffer of maxLine octets. Every line must carry the same code.
func readReply(r *bufio.Reader) (Reply, error) {
	var reply Reply
	size := 0
	for len(reply.Lines) < maxLines {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return Reply{}, fmt.Errorf("%w: a line of over %d octets", ErrNotSMTP, maxLine)
		case errors.Is(err, io.EOF) && len(line) > 0:
			return Reply{}, fmt.Errorf("connection closed within a reply: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return Reply{}, err
		}
		if size += len(line); size > maxReply {
			return Reply{}, fmt.Errorf("%w: over %d octets", ErrNotSMTP, maxReply)
		}
		row := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		code, last, ok := parseLine(row)
		if !ok || reply.Code != 0 && code != reply.Code {
			return Reply{}, fmt.Errorf("%w: %q", ErrNotSMTP, Tidy(row[:min(len(row), 60)]))
		}
		reply.Code = code
		reply.Lines = append(reply.Lines, text.Printable(row[min(4, len(row)):]))
		if last {
			return reply, nil
		}
	}
	return Reply{}, fmt.Errorf("%w: over %d lines", ErrNotSMTP, maxLines)
}

// parseLine reads the code of a line, and whether it is the last one of its reply.
func parseLine(s string) (code int, last, ok bool) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' {
		return 0, false, false
	}
	for i := range 3 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false, false
		}
		code = 10*code + int(s[i]-'0')
	}
	if len(s) > 3 && s[3] != ' ' && s[3] != '-' {
		return 0, false, false
	}
	return code, len(s) == 3 || s[3] == ' ', true
}

// Tidy makes them fit for a log line as well.
func Tidy(s string) string {
	return text.Printable(s[:min(len(s), maxText)])
}
