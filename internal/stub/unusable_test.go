package stub_test

import (
	"encoding/binary"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/stub"
)

// The error for a bad answer names the problem, and arrives immediately: it is not a timeout.
func TestUnusableAnswersAreReported(t *testing.T) {
	t.Parallel()
	bare := func(rcode int) func(query []byte) [][]byte {
		return func(query []byte) [][]byte {
			return [][]byte{reply(t, query, func(m *miekg.Msg) { m.Question, m.Answer, m.Rcode = nil, nil, rcode })}
		}
	}
	resize := func(by int) func(query []byte) [][]byte {
		return func(query []byte) [][]byte {
			octets := reply(t, query, nil)
			at := strings.LastIndex(string(octets), "\x02mx\x07example\x00") - 4 // the length of the data
			binary.BigEndian.PutUint16(octets[at:], uint16(int(binary.BigEndian.Uint16(octets[at:]))+by))
			return [][]byte{octets}
		}
	}
	for name, c := range map[string]struct {
		answer func(query []byte) [][]byte
		want   string
	}{
		"FORMERR without a question":     {bare(miekg.RcodeFormatError), "FORMERR"},
		"NOTIMP without a question":      {bare(miekg.RcodeNotImplemented), "NOTIMP"},
		"REFUSED without a question":     {bare(miekg.RcodeRefused), "REFUSED"},
		"SERVFAIL without a question":    {bare(miekg.RcodeServerFailure), "SERVFAIL"},
		"data longer than the message":   {resize(100), "malformed answer"},
		"data too long":                  {resize(1), "malformed answer"},
		"data too short":                 {resize(-1), "malformed answer"},
		"no data at all":                 {resize(-14), "malformed"},
		"a message that ends early":      {func(q []byte) [][]byte { m := reply(t, q, nil); return [][]byte{m[:len(m)-3]} }, "malformed answer"},
		"BADVERS, an extended RCODE":     {func(q []byte) [][]byte { return [][]byte{reply(t, q, badVersion)} }, "BADVERS"},
		"an extended RCODE without name": {func(q []byte) [][]byte { return [][]byte{reply(t, q, unknownRcode)} }, "RCODE 3000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t, stub.Options{Servers: []string{raw(t, c.answer)}, Trust: stub.TrustNever, Timeout: longTimeout})
			require.Contains(t, failure(t, s, mx("example.com")).Reason, c.want)
		})
	}
}

func badVersion(m *miekg.Msg) {
	m.Answer = nil
	m.SetEdns0(1232, true)
	m.Rcode = miekg.RcodeBadVers
}

func unknownRcode(m *miekg.Msg) {
	m.Answer = nil
	m.SetEdns0(1232, true)
	m.Rcode = 3000
}

// NOERROR and NXDOMAIN without a question would be data, so they are ignored.
func TestDataWithoutAQuestionIsIgnored(t *testing.T) {
	t.Parallel()
	for _, rcode := range []int{miekg.RcodeSuccess, miekg.RcodeNameError} {
		addr := raw(t, func(query []byte) [][]byte {
			return [][]byte{reply(t, query, func(m *miekg.Msg) { m.Question, m.Rcode = nil, rcode })}
		})
		s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever, Timeout: shortTimeout})
		require.Contains(t, failure(t, s, mx("example.com")).Reason, "timed out")
	}
}

// An attacker who has guessed the ID and the port cannot end a query: the genuine answer that follows counts.
func TestAnAnswerAfterAnUnusableOneCounts(t *testing.T) {
	t.Parallel()
	for name, forged := range map[string]func(query []byte) []byte{
		"malformed": func(query []byte) []byte { m := reply(t, query, nil); return m[:len(m)-3] },
		"FORMERR": func(query []byte) []byte {
			return reply(t, query, func(m *miekg.Msg) { m.Question, m.Answer, m.Rcode = nil, nil, miekg.RcodeFormatError })
		},
	} {
		addr := raw(t, func(query []byte) [][]byte { return [][]byte{forged(query), forged(query), reply(t, query, nil)} })
		s := newStub(t, stub.Options{Servers: []string{addr}, Trust: stub.TrustNever, Timeout: longTimeout})
		require.Len(t, answer(t, s, mx("example.com")).MX(), 1, name)
	}
}
