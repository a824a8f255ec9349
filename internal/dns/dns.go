// Package dns has the DNS types of policyd: questions, answers with their security status, and errors.
//
// An answer is Secure or Insecure (RFC 4033 section 5). A bogus answer arrives only as an *Error, like every other
// failed lookup, so that no caller can use it as data. The zero value of every type trusts nothing.
package dns

import (
	"context"
	"errors"
	"net/netip"
	"time"

	miekg "github.com/miekg/dns"
)

// Status is the security status of an answer (RFC 4033 section 5); Indeterminate, the zero value, means none.
type Status uint8

// The states of an answer.
const (
	Indeterminate Status = iota
	Insecure
	Secure
)

// String returns the status as RFC 4033 spells it, in lower case.
func (s Status) String() string {
	switch s {
	case Secure:
		return "secure"
	case Insecure:
		return "insecure"
	default:
		return "indeterminate"
	}
}

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. A word that is not known is Indeterminate.
func (s *Status) UnmarshalText(word []byte) error {
	*s = Indeterminate
	for _, known := range []Status{Insecure, Secure} {
		if string(word) == known.String() {
			*s = known
		}
	}
	return nil
}

// Type is a DNS RR type by its IANA number.
type Type uint16

// The types that policyd asks for.
const (
	TypeA     Type = 1
	TypeNS    Type = 2
	TypeCNAME Type = 5
	TypeMX    Type = 15
	TypeTXT   Type = 16
	TypeAAAA  Type = 28
	TypeTLSA  Type = 52
)

// String returns the mnemonic, such as "MX".
func (t Type) String() string { return miekg.Type(t).String() }

// MarshalText implements encoding.TextMarshaler.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. A mnemonic that is not known is the zero Type.
func (t *Type) UnmarshalText(mnemonic []byte) error {
	*t = Type(miekg.StringToType[string(mnemonic)])
	return nil
}

// Question is a question in class IN.
type Question struct {
	Name string // the name in presentation format: A-labels, any case, with or without the final dot
	Type Type
}

// RRset is the whole answer to a question: the RRset at the end of the CNAME chain, or its denial. It is shared between
// callers and must not be changed.
type RRset struct {
	Name     string // the name of the question, in lower case and without the final dot
	Owner    string // the name at the end of the CNAME chain; equal to Name where there is no CNAME
	Type     Type   // the type of the question
	Status   Status // the status of the whole CNAME chain (RFC 7672 section 2.1.3)
	NXDomain bool   // the name does not exist; an answer without data and without NXDomain is NODATA
	Stale    bool   // the answer had expired in the cache of the resolver, which could obtain no fresh one (RFC 8767)
	Epoch    uint32 // Epoch.Answers when the lookup began
	// Expires is the end of the smallest TTL that was used, or of the negative TTL of RFC 2308 section 5, or earlier.
	Expires time.Time
	// Records are a []MX, a []netip.Addr for A and AAAA, a []TLSA, or a []string for TXT and for the names that CNAME
	// and NS records point to. Nil is a denial. Most entries of a cache are denials, so one field holds all kinds.
	Records any
}

// MX returns the MX records, best preference first; nil if there are none. The same holds for the methods below.
func (r *RRset) MX() []MX { return records[MX](r) }

// Addrs returns the addresses of an A or AAAA RRset.
func (r *RRset) Addrs() []netip.Addr { return records[netip.Addr](r) }

// TLSA returns the TLSA records.
func (r *RRset) TLSA() []TLSA { return records[TLSA](r) }

// TXT returns the texts of a TXT RRset, or the names that CNAME or NS records point to.
func (r *RRset) TXT() []string { return records[string](r) }

func records[T any](r *RRset) []T {
	list, _ := r.Records.([]T)
	return list
}

// Empty reports whether the answer is a denial: the name or the type does not exist.
func (r *RRset) Empty() bool {
	return len(r.MX())+len(r.Addrs())+len(r.TLSA())+len(r.TXT()) == 0
}

// MX is one MX record. Host is in lower case and without the final dot. It need not be a host name: a zone can contain
// any octets, which are escaped as in a zone file. The null MX (RFC 7505) has Host "".
type MX struct {
	Preference uint16
	Host       string
}

// TLSA is one TLSA record, RFC 6698 section 2.1.
type TLSA struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte
}

// Resolver answers questions. It returns an answer, or an *Error if the lookup failed: the caller then knows nothing
// and must defer. A denial is an answer, not an error. With Effort.CacheOnly the error can also be ErrNotCached.
type Resolver interface {
	Lookup(ctx context.Context, q Question, e Effort) (*RRset, error)
}

// Effort limits what a lookup may cost. The zero Effort asks the servers if the answer is not cached.
type Effort struct {
	CacheOnly bool // returns ErrNotCached instead of asking; such a lookup never waits
	Untrusted bool // a remote party chose the name: the lookup refreshes no entry, and does not mark it as used
}

// ErrNotCached is returned for a lookup with Effort.CacheOnly if the answer is not in the cache.
var ErrNotCached = errors.New("dns: not cached")

// Epoch distinguishes answers and failures that were obtained under different conditions.
type Epoch struct {
	// Answers changes when the servers, the trust in them or the result of their self-test change. Answers with an
	// earlier value are void: a secure one may no longer be secure, and an insecure one may be secure now.
	Answers uint32
	// Failures changes when an outage of the servers ends. Failures with an earlier value say nothing about the names.
	Failures uint32
}

// Error is a failed lookup: SERVFAIL (bogus or not), a timeout, no server, or an answer that cannot be used. The caller
// must treat the facts as unknown.
type Error struct {
	Question Question
	Reason   string // says in a few words what failed, in printable ASCII
	Bogus    bool   // the resolver reported that validation failed (RFC 8914); for display only
	Epoch    Epoch  // the epoch when the lookup began
	Err      error  // the cause, or nil
}

// Error returns the question and the reason in one line.
func (e *Error) Error() string {
	return "dns: " + e.Question.Type.String() + " " + e.Question.Name + ": " + e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reason returns what failed in a lookup, without the question.
func Reason(err error) string {
	if failed, ok := errors.AsType[*Error](err); ok {
		return failed.Reason
	}
	return err.Error()
}
