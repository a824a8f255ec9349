package promises

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

var errEncoding = errors.New("promises: malformed record")

// encode returns the one form of v, which consists of numbers and has a fixed size: encoding does not fail.
func encode(v any) []byte {
	b, _ := binary.Append(nil, binary.BigEndian, v)
	return b
}

// decode reads into v a value that encode has written. It refuses every other form.
func decode(b []byte, v any) error {
	if _, err := binary.Decode(b, binary.BigEndian, v); err != nil || !bytes.Equal(encode(v), b) {
		return errEncoding
	}
	return nil
}

// check refuses sightings that contradict themselves.
func (seen sightings) check() error {
	for _, s := range seen {
		if s.Days == 0 && s != (Sightings{}) || s.Days > 0 && (s.Recent&1 == 0 || s.First > s.Last) {
			return errEncoding
		}
	}
	return nil
}

const recordVersion = 1

// saved is a record as it is on disk.
type saved struct {
	Version  uint8
	Seen     sightings
	Held     uint64
	Released bool
	Missing  uint64
}

func (r *record) saved() saved {
	return saved{recordVersion, r.seen, uint64(r.held), r.released, uint64(r.missing)}
}

func decodeRecord(_ string, b []byte) (r record, err error) {
	var s saved
	if err := decode(b, &s); err != nil {
		return r, err
	}
	r = record{seen: s.Seen, held: moment(s.Held), released: s.Released, missing: moment(s.Missing)}
	if r.saved() != s {
		return r, errEncoding
	}
	return r, r.seen.check()
}

// Share returns what was seen of a domain, for the other nodes of the site, the last day on which a promise was seen,
// and for how long that matters; nil when nothing was seen.
func (s *Store) Share(domain string) (seen []byte, last time.Time, lifetime time.Duration) {
	r := s.table.Get(domain)
	if r.seen == (sightings{}) {
		return nil, time.Time{}, 0
	}
	return encode(r.seen), r.last().Time(), shareFor
}

// Merge adds what another node of the same site has seen of a domain, as Share returns it. It can add days and
// promises, and removes nothing. It reports whether there was anything new.
func (s *Store) Merge(domain string, data []byte, _ time.Time) (bool, error) {
	var seen sightings
	if err := errors.Join(decode(data, &seen), seen.check()); err != nil {
		return false, err
	}
	s.table.Lock()
	defer s.table.Unlock()
	r := s.table.Records[domain]
	was := r
	for i := range seen {
		if seen[i].Last > DayOf(s.o.Now().Add(maxFuture)) {
			return false, errEncoding
		}
		r.seen[i].merge(seen[i])
	}
	s.put(domain, was, r)
	return r != was, nil
}
