package socketmap

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Client sends requests over one connection, one at a time. It is not safe for concurrent use.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
}

// NewClient returns a Client for a connection. The Client owns conn from then on.
func NewClient(conn net.Conn) *Client { return &Client{conn: conn, in: bufio.NewReader(conn)} }

// Dial connects to a server at "host:port" or "unix:/path".
func Dial(ctx context.Context, address string) (*Client, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("socketmap: %w", err)
	}
	return NewClient(conn), nil
}

// Lookup sends one request and returns its reply. It ignores RemoteAddr of the request. For a map name with a space, or
// a request over [MaxQuery] bytes, it sends nothing, and the error is a [*ProtocolError].
//
// After any other error the reply is unknown: Lookup returns TEMP with the error and closes the connection. A server
// may close a connection between requests; io.EOF means that the request can be sent again on a new connection.
func (c *Client) Lookup(ctx context.Context, req Request) (Reply, error) {
	text := req.Map + " " + req.Key
	if strings.Contains(req.Map, " ") || len(text) > MaxQuery {
		return Temp("request not sent"), &ProtocolError{"map name with a space, or request too long"}
	}
	reply, err := c.exchange(ctx, text)
	if err == nil {
		return reply, nil
	}
	_ = c.conn.Close()
	if _, limited := ctx.Deadline(); limited && errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.DeadlineExceeded // the connection noticed the deadline before ctx
	}
	return Temp("no reply"), fmt.Errorf("socketmap: lookup: %w", cmp.Or(ctx.Err(), err))
}

func (c *Client) exchange(ctx context.Context, text string) (Reply, error) {
	if ctx.Err() != nil {
		return Reply{}, ctx.Err()
	}
	deadline, _ := ctx.Deadline() // the zero Time means no deadline
	if err := c.conn.SetDeadline(deadline); err != nil {
		return Reply{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.conn.Write(AppendNetstring(nil, text)); err != nil {
		return Reply{}, err
	}
	payload, err := ReadNetstring(c.in, MaxReply)
	if err != nil {
		return Reply{}, err
	}
	return ParseReply(payload)
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }
