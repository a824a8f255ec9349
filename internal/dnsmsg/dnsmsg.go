// Package dnsmsg writes DNS queries, and reads the messages that may answer them (RFC 1035 section 4). It does nothing
// else: package stub sends the queries, and decides which servers are trusted.
//
// A message counts in three steps, each stricter than the one before. Read accepts a message that answers the query and
// can be read. Answer.Useful reports whether that answer says something about the name, and is not an error.
// Answer.RRset returns its content: the records at the end of the CNAME chain, or a denial. An answer that contradicts
// itself or the protocol is a failed lookup, never a denial.
package dnsmsg

import (
	"errors"

	miekg "github.com/miekg/dns"

	"github.com/policyd/policyd/internal/dns"
)

// The classes of queries. Questions about names of the Internet are in class IN; servers describe themselves in CHAOS.
const (
	ClassINET  uint16 = miekg.ClassINET
	ClassCHAOS uint16 = miekg.ClassCHAOS
)

// Query is what a query asks for. See NewQuery.
type Query struct {
	Name  string // as dns.OnWire returns it: fully qualified and in lower case
	Type  dns.Type
	Class uint16
}

// NewQuery returns the query for a question. It returns false if the name is not a domain name.
func NewQuery(q dns.Question) (query Query, ok bool) {
	fqdn, ok := dns.OnWire(q.Name)
	return Query{Name: fqdn, Type: q.Type, Class: ClassINET}, ok
}

// Question returns the question that the query asks, with its name in lower case and without the final dot.
func (q Query) Question() dns.Question {
	return dns.Question{Name: dns.TrimRoot(q.Name), Type: q.Type}
}

var (
	// ErrStray is returned for a message that does not answer the query: it may be forged, or a late answer to another
	// query. The answer may still come, so ignore the message and continue to wait.
	ErrStray = errors.New("not an answer to the query")
	// ErrMalformed is returned for a message that has the ID and the question of the query, but does not follow RFC
	// 1035 section 4. The lookup has failed, unless a better message follows.
	ErrMalformed = errors.New("malformed answer")
)

// Answer is a message that answers a query. Read returns it.
type Answer struct {
	msg      miekg.Msg
	question [1]miekg.Question // most messages have no more than these, so they take one allocation
	records  [2]miekg.RR
}

// Read reads a message that may answer a query with that ID. An answer has the ID and the question of the query (RFC
// 5452 section 9.1), or it is an error without a question, as servers that do not know EDNS send. Any other message is
// an ErrStray: data without a question could be that of another name. An answer that cannot be read is an ErrMalformed,
// unless it is truncated. The Answer does not refer to octets.
func Read(octets []byte, id uint16, q Query) (*Answer, error) {
	a, err := parse(octets)
	m := &a.msg
	asked := miekg.Question{Name: q.Name, Qtype: uint16(q.Type), Qclass: q.Class}
	repeats := len(m.Question) == 1 && m.Question[0] == asked
	bareError := len(m.Question) == 0 && err == nil && !a.Useful()
	switch {
	case m.Id != id || !m.Response || m.Opcode != miekg.OpcodeQuery || !repeats && !bareError:
		return nil, ErrStray
	case err != nil && !m.Truncated:
		return nil, err
	}
	return a, nil
}

// HasQuestion reports whether the answer repeats the question of the query. Otherwise it is an error without a
// question, which only its ID connects with the query.
func (a *Answer) HasQuestion() bool { return len(a.msg.Question) > 0 }

// Truncated reports whether the TC bit is set: the answer is incomplete, even if it has the AD bit, and must not be
// used. Send the query again over TCP (RFC 7766 section 5).
func (a *Answer) Truncated() bool { return a.msg.Truncated }

// AuthenticatedData reports whether the AD bit is set: the server claims that it has validated the answer (RFC 4035
// section 3.2.3). That counts only if the server is trusted.
func (a *Answer) AuthenticatedData() bool { return a.msg.AuthenticatedData }

// Useful reports whether the answer says something about its name: its RCODE is NOERROR or NXDOMAIN.
func (a *Answer) Useful() bool {
	return a.msg.Rcode == miekg.RcodeSuccess || a.msg.Rcode == miekg.RcodeNameError
}
