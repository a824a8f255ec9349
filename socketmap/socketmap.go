// Package socketmap speaks the protocol of Postfix's socketmap tables
// (socketmap_table(5)): a client sends "mapname key" as a netstring, the server
// replies "OK data", "NOTFOUND ", "TEMP reason", "TIMEOUT reason" or "PERM
// reason" as a netstring, one after the other on a connection that stays open.
//
// Server and Handler work in the manner of net/http. The zero Reply is TEMP:
// a handler that forgets to answer defers mail and never weakens it.
package socketmap

import (
	"context"
	"errors"
	"strings"
)

// The limits of the protocol. Postfix takes replies of up to 100,000 bytes, and
// from 3.12 sends queries of up to 10,000.
const (
	MaxQuery = 10_000
	MaxReply = 100_000

	maxReason = 200 // what Postfix logs of a reason
)

// Request is one lookup. Map and Key are as the client sent them: the key may
// hold any bytes.
type Request struct {
	Map, Key string
}

// Handler answers requests. It is called by several goroutines at once. The context
// ends when the server is closed, or when the patience of Shutdown is over.
type Handler interface {
	ServeSocketmap(ctx context.Context, req Request) Reply
}

// HandlerFunc is a Handler made of a function.
type HandlerFunc func(ctx context.Context, req Request) Reply

// ServeSocketmap calls f.
func (f HandlerFunc) ServeSocketmap(ctx context.Context, req Request) Reply { return f(ctx, req) }

// Mux passes requests on by their map name. The zero Mux knows no maps. Handle
// must not be called while requests are served.
type Mux struct {
	handlers map[string]Handler
}

// Handle has h answer the map of that name.
func (m *Mux) Handle(name string, h Handler) {
	if m.handlers == nil {
		m.handlers = map[string]Handler{}
	}
	m.handlers[name] = h
}

// ServeSocketmap has the handler of the map answer; a map that is not known is PERM.
func (m *Mux) ServeSocketmap(ctx context.Context, req Request) Reply {
	h, ok := m.handlers[req.Map]
	if !ok {
		return Perm("unknown map name: " + req.Map)
	}
	return h.ServeSocketmap(ctx, req)
}

// Status is the first word of a reply. The zero Status is StatusTemp.
type Status uint8

// The statuses. Postfix defers mail for all but the first two.
const (
	StatusTemp Status = iota
	StatusOK
	StatusNotFound
	StatusTimeout
	StatusPerm
)

// String returns the word on the wire.
func (s Status) String() string {
	switch s {
	case StatusOK:
		return "OK"
	case StatusNotFound:
		return "NOTFOUND"
	case StatusTimeout:
		return "TIMEOUT"
	case StatusPerm:
		return "PERM"
	case StatusTemp:
	}
	return "TEMP"
}

// Reply is an answer: the data of OK, or a reason for people.
type Reply struct {
	Status Status
	Text   string
}

// OK returns a reply with data, which must be printable ASCII and not empty.
func OK(data string) Reply { return Reply{Status: StatusOK, Text: data} }

// NotFound returns the reply for a key that is not in the map.
func NotFound() Reply { return Reply{Status: StatusNotFound} }

// Temp returns a temporary error: Postfix defers the mail and logs the reason.
func Temp(reason string) Reply { return Reply{Status: StatusTemp, Text: reason} }

// Perm returns a permanent error, which Postfix treats like a temporary one.
func Perm(reason string) Reply { return Reply{Status: StatusPerm, Text: reason} }

// String returns the reply as it leaves: "NOTFOUND " with its space, reasons cut to
// 200 characters of printable ASCII. An OK that Postfix would misread (without data, with other bytes,
// over 100,000 bytes) leaves as TEMP: "OK" without a space means "not found" to Postfix 3.7 to 3.10.8.
func (r Reply) String() string { return string(r.appendTo(nil)) }

func (r Reply) appendTo(b []byte) []byte {
	switch r.Status {
	case StatusOK:
		switch {
		case r.Text == "":
			r = Temp("internal error: a reply without data")
		case len(r.Text) > MaxReply-len("OK "):
			r = Temp("internal error: a reply over 100,000 bytes")
		case !printable(r.Text):
			r = Temp("internal error: a reply with bytes outside printable ASCII")
		}
	case StatusTemp, StatusTimeout:
		if r.Text == "" {
			r.Text = "no answer"
		}
	case StatusNotFound, StatusPerm:
	}
	b = append(b, r.Status.String()...)
	b = append(b, ' ')
	if r.Status == StatusOK {
		return append(b, r.Text...)
	}
	for i := range min(len(r.Text), maxReason) {
		c := r.Text[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ErrReply says that a peer's reply is none of the protocol. Take it as TEMP.
var ErrReply = errors.New("socketmap: malformed reply")

// ParseReply reads the payload of a reply. It is stricter than Postfix: OK needs its space and data. The
// error is ErrReply, and the Reply is then TEMP.
func ParseReply(payload string) (Reply, error) {
	word, text, spaced := strings.Cut(payload, " ")
	for _, s := range []Status{StatusTemp, StatusOK, StatusNotFound, StatusTimeout, StatusPerm} {
		if word == s.String() && spaced && (s != StatusOK || text != "") {
			return Reply{Status: s, Text: text}, nil
		}
	}
	return Reply{Text: "malformed reply"}, ErrReply
}
