// Package socketmap is a server and a client for the protocol of Postfix's socketmap tables, which Sendmail uses too.
//
// # Protocol
//
// A client sends "mapname key" as a netstring, and the server sends one reply as a netstring: "OK data", "NOTFOUND ",
// "TEMP reason", "TIMEOUT reason" or "PERM reason". The connection stays open for further requests. A client may send
// requests before earlier ones are answered; replies have the order of the requests. See socketmap_table(5).
//
// # Server and client
//
// [Server], [Handler] and [Mux] work like the types of net/http: each connection has a goroutine, [Server.Serve] serves
// one listener, and [Server.Shutdown] lets requests in progress finish. The zero [Reply] is TEMP, never NOTFOUND: if a
// handler forgets to set a reply, Postfix defers the mail. [Dial] and [NewClient] return a [Client].
//
// # Hostile clients
//
// A server protects itself with [Limits]. It closes a connection without an answer when a request is malformed, longer
// than [MaxQuery] or not complete in time, and when the client does not read its replies. When the connection limit is
// reached, it closes the connection that has been idle longest for each new one. A panic in a handler becomes TEMP. A
// reply that Postfix would misread, such as an OK without data, is sent as TEMP.
//
// # Errors
//
// Bytes that do not follow the protocol are a [*ProtocolError], which matches [ErrProtocol]. Errors of the connection
// and of the context are wrapped: errors.Is finds net.ErrClosed, io.EOF, context.Canceled and so on.
package socketmap

import (
	"context"
	"errors"
	"net"
	"strings"
)

// The limits of the protocol, in bytes of payload. From version 3.12 on, Postfix sends queries of up to 10,000 bytes.
const (
	MaxQuery  = 10_000
	MaxReply  = 100_000
	maxReason = 200 // Postfix logs no more of a reason
)

// ErrProtocol matches every [*ProtocolError].
var ErrProtocol = errors.New("socketmap: protocol error")

// ProtocolError reports bytes that are not a netstring, not a request or not a reply. After one, the
// two sides may disagree about where the next message begins: close the connection.
type ProtocolError struct {
	Reason string // such as "missing comma after a netstring"; no bytes of the peer
}

func (e *ProtocolError) Error() string { return "socketmap: " + e.Reason }

// Is reports whether target is ErrProtocol.
func (e *ProtocolError) Is(target error) bool { return target == ErrProtocol }

// Request is one lookup. Map and Key are as the client sent them: the key may contain any bytes.
type Request struct {
	Map, Key string
	// RemoteAddr is the client's address. The server sets it; a client ignores it.
	RemoteAddr net.Addr
}

// Handler answers requests. The server calls it from several goroutines concurrently. The context ends
// when [Server.Close] is called or the context of [Server.Shutdown] ends, but not when the client leaves.
type Handler interface {
	ServeSocketmap(ctx context.Context, req Request) Reply
}

// HandlerFunc makes a function a [Handler].
type HandlerFunc func(ctx context.Context, req Request) Reply

// ServeSocketmap calls f.
func (f HandlerFunc) ServeSocketmap(ctx context.Context, req Request) Reply { return f(ctx, req) }

// Status is the first word of a reply. The zero Status is StatusTemp.
type Status uint8

// The statuses. Postfix defers the mail for every status except StatusOK and StatusNotFound.
const (
	StatusTemp Status = iota
	StatusOK
	StatusNotFound
	StatusTimeout
	StatusPerm
)

// String returns the word that is sent, and TEMP for an unknown status.
func (s Status) String() string {
	if s > StatusPerm {
		s = StatusTemp
	}
	return [...]string{"TEMP", "OK", "NOTFOUND", "TIMEOUT", "PERM"}[s]
}

// MarshalText returns the word that is sent, for JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word of a status. The error is a [*ProtocolError], and the Status is then StatusTemp.
func (s *Status) UnmarshalText(word []byte) error {
	for known := StatusTemp; known <= StatusPerm; known++ {
		if string(word) == known.String() {
			*s = known
			return nil
		}
	}
	*s = StatusTemp
	return &ProtocolError{"malformed reply"}
}

// Reply is the answer to a request.
type Reply struct {
	Status Status `json:"status"`
	// Text is the data of StatusOK, nothing for StatusNotFound, and otherwise a reason for the log of the client.
	Text string `json:"text"`
}

// OK returns a reply with data, which must be printable ASCII and not empty.
func OK(data string) Reply { return Reply{Status: StatusOK, Text: data} }

// NotFound returns the reply for a key that the map does not contain.
func NotFound() Reply { return Reply{Status: StatusNotFound} }

// Temp returns a temporary error. Postfix defers the mail and logs the reason.
func Temp(reason string) Reply { return Reply{Status: StatusTemp, Text: reason} }

// Perm returns a permanent error. Postfix treats it like a temporary one.
func Perm(reason string) Reply { return Reply{Status: StatusPerm, Text: reason} }

// String returns the reply as it is sent. A reason is cut to 200 bytes, and characters outside printable ASCII
// become "?". An OK that Postfix would misread is sent as TEMP: one without data (Postfix 3.7 to 3.10.8 take "OK"
// without a space as "not found"), one with bytes outside printable ASCII, and one over [MaxReply].
func (r Reply) String() string { return string(r.appendTo(nil)) }

func (r Reply) appendTo(b []byte) []byte {
	switch {
	case r.Status > StatusPerm:
		r = Temp("internal error: unknown reply status")
	case r.Status == StatusOK && r.Text == "":
		r = Temp("internal error: OK without data")
	case r.Status == StatusOK && len(r.Text) > MaxReply-len("OK "):
		r = Temp("internal error: reply over 100,000 bytes")
	case r.Status == StatusOK && strings.ContainsFunc(r.Text, unprintable):
		r = Temp("internal error: reply with bytes outside printable ASCII")
	case r.Text == "" && (r.Status == StatusTemp || r.Status == StatusTimeout):
		r.Text = "no answer"
	}
	b = append(append(b, r.Status.String()...), ' ')
	if r.Status == StatusOK {
		return append(b, r.Text...)
	}
	return append(b, strings.Map(func(c rune) rune {
		if unprintable(c) {
			return '?'
		}
		return c
	}, r.Text[:min(len(r.Text), maxReason)])...)
}

func unprintable(c rune) bool { return c < ' ' || c > '~' }

// ParseReply parses the payload of a reply. It is stricter than Postfix: the word needs its space, and OK
// needs data. The error is a [*ProtocolError], and the Reply is then TEMP.
func ParseReply(payload string) (Reply, error) {
	word, text, spaced := strings.Cut(payload, " ")
	reply := Reply{Text: text}
	if err := reply.Status.UnmarshalText([]byte(word)); err != nil || !spaced || reply == OK("") {
		return Temp("malformed reply"), &ProtocolError{"malformed reply"}
	}
	return reply, nil
}
