package smtptls

import (
	"bufio"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/policyd/policyd/internal/text"
)

// The bounds on what is kept of replies: like smtp(8), maxLine octets of a line, and the lines with the first maxText
// octets of a reply; RFC 5321 section 4.5.3.1.5 allows 512 octets per line.
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
	return Tidy(strings.TrimSpace(fmt.Sprintf("%03d %s", r.Code, strings.Join(r.Lines[:min(1, len(r.Lines))], ""))))
}

// positive reports whether the reply has a 2yz code. Postfix asks for no more where the RFC names one code.
func (r Reply) positive() bool { return r.Code/100 == 2 }

// startTLS matches a line of an EHLO reply that offers STARTTLS. Like in Postfix, "=" ends a keyword as well.
var startTLS = regexp.MustCompile(`(?i)^[ \t=]*STARTTLS([ \t=]|$)`)

// replyLine matches a line with a code and captures it and the separator: the end of the line counts as a space.
var replyLine = regexp.MustCompile(`^([0-9]{3})([ -]|$)`)

// readReply reads one reply as smtp(8) does: it ends with a line of three digits and a space, or nothing; every other
// line continues it, and the code is that of the last line.
func readReply(r *bufio.Reader) (Reply, error) {
	var reply Reply
	kept := 0 // octets
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return Reply{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		code := replyLine.FindStringSubmatch(line)
		if kept < maxText {
			kept += len(line)
			if code != nil {
				line = line[len(code[0]):]
			}
			reply.Lines = append(reply.Lines, text.Printable(line[:min(len(line), maxLine)]))
		}
		if code != nil && code[2] != "-" {
			reply.Code, _ = strconv.Atoi(code[1]) // three digits
			return reply, nil
		}
	}
}

// Tidy returns the beginning of s in printable ASCII, fit for a log line.
func Tidy(s string) string { return text.Printable(s[:min(len(s), maxWhy)]) }
