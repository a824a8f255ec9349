package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Verdict is what a Relay does with a question.
type Verdict uint8

// The verdicts. The zero value passes the question on.
const (
	Pass     Verdict = iota
	Drop             // no answer at all
	ServFail         // an answer with SERVFAIL
)

// Relay passes DNS messages on to a resolver, except those that Judge stops.
type Relay struct {
	Addr, Upstream netip.AddrPort
	// Judge is called for each question, concurrently.
	Judge func(DNSQuestion) Verdict

	packets   net.PacketConn
	listener  net.Listener
	exchanges sync.WaitGroup
}

// relayPatience is how long the resolver behind a relay may take.
const relayPatience = 10 * time.Second

// Start starts to relay over UDP and TCP. Close it.
func (r *Relay) Start() error {
	var err error
	if r.packets, err = net.ListenPacket("udp", r.Addr.String()); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if r.listener, err = net.Listen("tcp", r.Addr.String()); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	r.exchanges.Go(r.serveUDP)
	r.exchanges.Go(r.serveTCP)
	return nil
}

// Close ends the relay.
func (r *Relay) Close() {
	_ = r.packets.Close()
	_ = r.listener.Close()
}

func (r *Relay) serveUDP() {
	for {
		query := make([]byte, 1<<16)
		n, from, err := r.packets.ReadFrom(query)
		if err != nil {
			return
		}
		r.exchanges.Go(func() {
			if answer := r.exchange(query[:n], "udp"); answer != nil {
				_, _ = r.packets.WriteTo(answer, from)
			}
		})
	}
}

func (r *Relay) serveTCP() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.exchanges.Go(func() {
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(relayPatience))
			for {
				query, err := readFrame(c)
				if err != nil {
					return
				}
				if answer := r.exchange(query, "tcp"); answer != nil {
					_ = writeFrame(c, answer)
				}
			}
		})
	}
}

// exchange returns the answer to a query, nil if there is none.
func (r *Relay) exchange(query []byte, network string) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) == nil && len(m.Questions) == 1 {
		q := m.Questions[0]
		switch r.Judge(DNSQuestion{typeName(q.Type), q.Name.String()}) {
		case Pass:
		case Drop:
			return nil
		case ServFail:
			m.Response, m.RecursionAvailable, m.RCode = true, true, dnsmessage.RCodeServerFailure
			m.Additionals = nil
			answer, err := m.Pack()
			if err != nil {
				return nil
			}
			return answer
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), relayPatience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, r.Upstream.String())
	if err != nil {
		return nil
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(relayPatience))
	if network == "tcp" {
		if writeFrame(c, query) != nil {
			return nil
		}
		answer, err := readFrame(bufio.NewReader(c))
		if err != nil {
			return nil
		}
		return answer
	}
	if _, err := c.Write(query); err != nil {
		return nil
	}
	answer := make([]byte, 1<<16)
	n, err := c.Read(answer)
	if err != nil {
		return nil
	}
	return answer[:n]
}

func readFrame(r io.Reader) ([]byte, error) {
	var size uint16
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	message := make([]byte, size)
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeFrame(w io.Writer, message []byte) error {
	frame := binary.BigEndian.AppendUint16(nil, uint16(len(message)))
	_, err := w.Write(append(frame, message...))
	return err
}
