package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/policyd/policyd/e2e/must"
)

// DNSQuestion is a record type and a name with the final dot.
type DNSQuestion struct{ Type, Name string }

// Verdict is what a Relay does with a question.
type Verdict uint8

// The verdicts. The zero value forwards the question.
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

	servers []*dns.Server
}

// dnsTimeout is how long a resolver may take to answer.
const dnsTimeout = 10 * time.Second

// Start starts to relay over UDP and TCP. Close the relay.
func (r *Relay) Start() error {
	return must.Catch(func() {
		r.servers = []*dns.Server{
			{PacketConn: must.Get(net.ListenPacket("udp", r.Addr.String())), Handler: r.handler("udp"),
				UDPSize: dns.MaxMsgSize},
			{Listener: must.Get(net.Listen("tcp", r.Addr.String())), Handler: r.handler("tcp")},
		}
		for _, s := range r.servers {
			go func() { _ = s.ActivateAndServe() }() // until Close
		}
	})
}

// Close ends the relay.
func (r *Relay) Close() {
	for _, s := range r.servers {
		_ = s.Shutdown()
	}
}

func (r *Relay) handler(network string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		question := query.Question[0]
		switch r.Judge(DNSQuestion{dns.TypeToString[question.Qtype], question.Name}) {
		case Drop:
		case ServFail:
			answer := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
			answer.RecursionAvailable = true
			_ = w.WriteMsg(answer)
		case Pass:
			client := dns.Client{Net: network, Timeout: dnsTimeout, UDPSize: dns.MaxMsgSize}
			if answer, _, err := client.Exchange(query, r.Upstream.String()); err == nil {
				answer.Compress = true
				_ = w.WriteMsg(answer)
			}
		}
	}
}

// Ask sends one question over UDP as a simple client does, without EDNS, and waits for the answer.
func Ask(ctx context.Context, server netip.AddrPort, q DNSQuestion) error {
	query := new(dns.Msg).SetQuestion(q.Name, dns.StringToType[q.Type])
	client := dns.Client{Timeout: dnsTimeout / 2, UDPSize: dns.MaxMsgSize}
	_, _, err := client.ExchangeContext(ctx, query, server.String())
	if err != nil {
		err = fmt.Errorf("lab: %v %s: %w", q, server, err)
	}
	return err
}
