package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/policyd/policyd/socketmap"
)

// serveConstant is the least that a server can do: it finds where a request ends and writes the one reply. It has no
// time-outs, no limits and no counters, and looks at nothing.
func serveConstant(ctx context.Context, addresses []string, text string) error {
	reply := socketmap.AppendNetstring(nil, text)
	failed := make(chan error, len(addresses))
	for _, address := range addresses {
		l, err := listen(ctx, address)
		if err != nil {
			return err
		}
		go func() { failed <- acceptConstant(l, reply) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, network, address)
}

func acceptConstant(l net.Listener, reply []byte) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			_ = answerConstant(c, reply) // the client has gone
		}()
	}
}

func answerConstant(c net.Conn, reply []byte) error {
	buf := make([]byte, 16<<10)
	have := 0
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		for {
			size, err := netstringSize(buf[:have])
			if err != nil {
				return err
			}
			if size == 0 || size > have {
				break
			}
			have = copy(buf, buf[size:have])
			if _, err := c.Write(reply); err != nil {
				return err
			}
		}
	}
}

// netstringSize returns the size of the netstring at the beginning of b, 0 if that cannot be told yet.
func netstringSize(b []byte) (int, error) {
	colon := bytes.IndexByte(b, ':')
	if colon < 0 {
		return 0, nil
	}
	n := 0
	for _, c := range b[:colon] {
		if c < '0' || c > '9' || n > socketmap.MaxReply {
			return 0, errors.New("not a netstring")
		}
		n = 10*n + int(c-'0')
	}
	if n > socketmap.MaxReply {
		return 0, fmt.Errorf("a netstring of %d bytes", n)
	}
	return colon + 1 + n + 1, nil
}
