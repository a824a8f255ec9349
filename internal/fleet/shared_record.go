package fleet

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// Kind is the kind of a record.
type Kind string

// The kinds that are shared. DNS records, the AD bit, the results of probes and settings are never shared.
const (
	Policy  Kind = "sts"     // an enforced MTA-STS policy
	Promise Kind = "promise" // what is remembered of a domain's promises
)

// Record is what the server stores. Its encoding is: version 1, the length and the text of the kind and of the domain,
// the time in seconds since 1970, the lifetime in seconds, the length and the bytes of the content, and the HMAC-SHA256
// of all of this under the site key.
type Record struct {
	recordName
	Time     time.Time     // when it was learned
	Lifetime time.Duration // how long it holds from then on
	Data     []byte
}

// The bounds on a record from the server.
const (
	version     = 1
	maxData     = 72 << 10               // the largest content: an MTA-STS policy of 64 KiB and its metadata
	maxFuture   = 5 * time.Minute        // how far the clock of a peer may be ahead
	maxLifetime = 31557600 * time.Second // the largest max_age of RFC 8461 section 3.2
)

// Reason is why a record was ignored.
type Reason string

// The reasons, in the order in which they are checked. The zero value means that a record is used.
const (
	Malformed Reason = "malformed" // not a record
	Version   Reason = "version"   // the record is from another version of policyd
	MAC       Reason = "mac"       // changed, or signed with another key
	Misplaced Reason = "misplaced" // stored under the name of another domain or kind
	Future    Reason = "future"    // its time is more than five minutes ahead
	Expired   Reason = "expired"   // no longer valid
	Refused   Reason = "refused"   // would not strengthen an answer, such as a policy that is not enforced
	Stale     Reason = "stale"     // this node knows at least as much
)

// Key is a site key: 32 random octets.
type Key [32]byte

// NewKey returns a new random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails: crypto/rand
	return k
}

// String hides the key, so that it never reaches a log. Use Text to write it to a file.
func (Key) String() string { return "[site key]" }

// Text returns the key in the form in which ParseKey reads it.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ParseKey reads a key as Text writes it; white space around it is ignored.
func ParseKey(text []byte) (k Key, err error) {
	b, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(b) != len(k) {
		return Key{}, errors.New("not a site key: expected 32 octets in base64, as policyd fleet key prints them")
	}
	copy(k[:], b)
	if k == (Key{}) {
		return Key{}, errors.New("not a site key: all octets are zero")
	}
	return k, nil
}

func (k Key) mac(body []byte) []byte {
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte("policyd fleet record\x00"))
	h.Write(body)
	return h.Sum(nil)
}

// seal encodes a record and signs it. It returns nil if the record is too large.
func (r Record) seal(k Key) []byte {
	if len(r.kind) > 255 || len(r.domain) > 255 || len(r.Data) > maxData {
		return nil
	}
	b := []byte{version, byte(len(r.kind))}
	b = append(b, r.kind...)
	b = append(b, byte(len(r.domain)))
	b = append(b, r.domain...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Lifetime/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	b = append(b, r.Data...)
	return append(b, k.mac(b)...)
}

// open decodes a record that the server stores under a name. It returns a Reason unless the record is authentic,
// belongs there and is valid now.
func open(b []byte, n recordName, keys []Key, now time.Time) (Record, Reason) {
	if len(b) < 1+sha256.Size || len(b) > maxData+1024 {
		return Record{}, Malformed
	}
	if b[0] != version {
		return Record{}, Version
	}
	body, mac := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !slices.ContainsFunc(keys, func(k Key) bool { return hmac.Equal(mac, k.mac(body)) }) {
		return Record{}, MAC
	}
	r, ok := parse(body)
	switch {
	case !ok:
		return Record{}, Malformed
	case r.recordName != n:
		return Record{}, Misplaced
	case r.Time.After(now.Add(maxFuture)):
		return Record{}, Future
	case !r.Time.Add(r.Lifetime).After(now):
		return Record{}, Expired
	}
	return r, ""
}

// parse decodes the body of a record whose HMAC is right.
func parse(b []byte) (r Record, ok bool) {
	b = b[1:]           // the version
	var texts [2]string // the kind and the domain
	for i := range texts {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return Record{}, false
		}
		texts[i] = string(b[1 : 1+int(b[0])])
		b = b[1+len(texts[i]):]
	}
	const header = 20 // octets of the time, the lifetime and the length
	if len(b) < header {
		return Record{}, false
	}
	seconds, lifetime := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	const most = 1 << 40 // seconds, tens of thousands of years: times stay far from overflow
	if seconds > most || lifetime > uint64(maxLifetime/time.Second) ||
		uint64(len(b)-header) != uint64(binary.BigEndian.Uint32(b[16:])) {
		return Record{}, false
	}
	return Record{
		recordName: recordName{Kind(texts[0]), texts[1]}, Data: slices.Clone(b[header:]),
		Time: time.Unix(int64(seconds), 0), Lifetime: time.Duration(lifetime) * time.Second,
	}, true
}
