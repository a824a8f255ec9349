package dnstest

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// Answer is the answer of a Server to one question. The zero Answer is a denial: NODATA, insecure.
type Answer struct {
	// Secure sets the AD bit.
	Secure bool
	// TTL of the records, and of the SOA of a denial; 300 s by default, negative for 0.
	TTL int
	// Records are in the form of a zone file without owner, TTL and class: "MX 10 mx.example.com.". One with an
	// owner is written "=owner. MX 10 mx.example.com.".
	Records []string
	// Rcode is NOERROR unless set: "NXDOMAIN", "SERVFAIL", …
	Rcode string
	// EDE is an Extended DNS Error (RFC 8914), with EDEText; 0 for none.
	EDE     uint16
	EDEText string
	// Delay is how long the answer takes.
	Delay time.Duration
	// Drop leaves the question without an answer.
	Drop bool
	// Truncate answers TC=1 over UDP, with the AD bit and without records.
	Truncate bool
	// Oversize sends the answer over UDP even if it is larger than the query allows.
	Oversize bool
	// Strays are sent before the answer over UDP, or with Drop instead of it: messages with a wrong ID, question,
	// class, type, opcode or QR bit, and octets that are not a message.
	Strays bool
	// Change, if not nil, is called with the message before it is sent.
	Change func(*miekg.Msg)

	parsed []miekg.RR // Records; one without an owner has the name of the question
}

// parse reads the records when the answer is set, so that benchmarks do not measure it with each query.
func (a *Answer) parse() {
	a.parsed = nil
	for _, record := range a.Records {
		owner := "."
		rest, own := strings.CutPrefix(record, "=")
		if own {
			owner, record, _ = strings.Cut(rest, " ")
		}
		rr, err := miekg.NewRR(fmt.Sprintf("%s %d IN %s", owner, seconds(a.TTL), record))
		if err != nil {
			panic("dnstest: " + err.Error())
		}
		if !own {
			rr.Header().Name = ""
		}
		a.parsed = append(a.parsed, rr)
	}
}

// message makes the answer to a query.
func (a Answer) message(query *miekg.Msg) *miekg.Msg {
	m := new(miekg.Msg).SetReply(query)
	m.RecursionAvailable, m.AuthenticatedData, m.Compress = true, a.Secure, true
	if a.Rcode != "" {
		m.Rcode = miekg.StringToRcode[a.Rcode]
	}
	zone := query.Question[0].Name
	for _, rr := range a.parsed {
		rr = miekg.Copy(rr)
		rr.Header().Name = cmp.Or(rr.Header().Name, zone)
		m.Answer = append(m.Answer, rr)
	}
	if len(a.Records) == 0 && (m.Rcode == miekg.RcodeSuccess || m.Rcode == miekg.RcodeNameError) {
		ttl := uint32(seconds(a.TTL))
		m.Ns = append(m.Ns, &miekg.SOA{
			Hdr: miekg.RR_Header{Name: zone, Rrtype: miekg.TypeSOA, Class: miekg.ClassINET, Ttl: ttl},
			Ns:  "ns.", Mbox: "hostmaster.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400,
			Minttl: ttl,
		})
	}
	if a.EDE != 0 {
		opt := &miekg.OPT{Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeOPT}}
		opt.Option = append(opt.Option, &miekg.EDNS0_EDE{InfoCode: a.EDE, ExtraText: a.EDEText})
		m.Extra = append(m.Extra, opt)
	}
	return m
}

// seconds reads the TTL of an Answer.
func seconds(ttl int) int { return max(cmp.Or(ttl, 300), 0) }

// sendStrays sends messages that a stub must not treat as the answer m: NXDOMAIN with the AD bit.
func sendStrays(w miekg.ResponseWriter, m *miekg.Msg) {
	for _, wrong := range []func(*miekg.Msg){
		func(s *miekg.Msg) { s.Id++ },
		func(s *miekg.Msg) { s.Question[0].Name = "other.example." },
		func(s *miekg.Msg) { s.Question[0].Qtype = miekg.TypeTXT },
		func(s *miekg.Msg) { s.Question[0].Qclass = miekg.ClassCHAOS },
		func(s *miekg.Msg) { s.Question = nil },
		func(s *miekg.Msg) { s.Response = false },
		func(s *miekg.Msg) { s.Opcode = miekg.OpcodeNotify },
	} {
		stray := m.Copy()
		stray.Rcode, stray.AuthenticatedData, stray.Answer, stray.Ns = miekg.RcodeNameError, true, nil, nil
		wrong(stray)
		_ = w.WriteMsg(stray)
	}
	_, _ = w.Write([]byte("no DNS message at all"))
}
