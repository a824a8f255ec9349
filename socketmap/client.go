package socketmap

import (
	"bufio"
	"context"
	"net"
	"strings"
	"time"
)

// Client asks a server over one connection, one lookup at a time. It is not for use by several
// goroutines at once.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
}

// Dial connects to a server at "host:port" or "unix:/path".
func Dial(ctx context.Context, address string) (*Client, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// Lookup asks one question. After an error the answer is not known, the Reply is TEMP, and the Client
// is of no more use: close it.
func (c *Client) Lookup(ctx context.Context, req Request) (Reply, error) {
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	deadline, _ := ctx.Deadline() // the zero Time is no deadline
	if err := c.conn.SetDeadline(deadline); err != nil {
		return Reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.conn.Write(AppendNetstring(nil, req.Map+" "+req.Key)); err != nil {
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
