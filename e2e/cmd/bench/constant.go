package main

import (
	"bufio"
	"context"
	"net"

	"github.com/policyd/policyd/socketmap"
)

// serveConstant is the minimal server: it reads a request and writes the one reply. It has no timeouts, limits or
// counters, and does not parse the request.
func serveConstant(ctx context.Context, path, text string) error {
	reply := socketmap.AppendNetstring(nil, text)
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			for in := bufio.NewReader(c); ; {
				if _, err := socketmap.ReadNetstring(in, socketmap.MaxQuery); err != nil {
					return
				}
				if _, err := c.Write(reply); err != nil {
					return
				}
			}
		}()
	}
}
