package promises

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Disk keeps the memory across restarts.
type Disk interface {
	// Read calls visit for every key that is stored. The value is only valid during the call.
	Read(visit func(key string, value []byte)) error
	// Write stores the changes durably, all or none; a nil value removes the key.
	Write(changes map[string][]byte) error
}

// Load reads what the disk has. A record that cannot be decoded is skipped. On an error the store works with what could
// be read.
func (s *Store) Load() error {
	if s.disk == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disk.Read(func(domain string, value []byte) {
		r, err := decode(value)
		if err != nil {
			return
		}
		if len(s.records) < s.max {
			s.records[domain] = r
		}
	})
}

// Run writes changes to the disk until ctx ends, and what is left then. Changes that arrive during a write go together
// into the next one. After an error it tries again, with the changes of the meantime.
func (s *Store) Run(ctx context.Context) error {
	const retry = 10 * time.Second
	for {
		select {
		case <-ctx.Done():
			_ = s.flush() // the disk has logged it
			return ctx.Err()
		case <-s.wake:
		}
		if s.flush() == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// flush writes what has changed.
func (s *Store) flush() error {
	s.mu.Lock()
	changes := make(map[string][]byte, len(s.dirty))
	for domain := range s.dirty {
		if r, ok := s.records[domain]; ok {
			changes[domain] = r.encode()
		} else {
			changes[domain] = nil
		}
	}
	clear(s.dirty)
	s.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	err := s.disk.Write(changes)
	if err != nil {
		s.mu.Lock()
		for domain := range changes {
			s.mark(domain)
		}
		s.mu.Unlock()
	}
	return err
}

const (
	recordVersion = 1
	sightingsSize = 2 + 2 + 2 + 1 + 4
	recordSize    = 1 + 3*sightingsSize + 8 + 1 + 8
)

var errEncoding = errors.New("promises: unknown encoding")

// AppendBinary appends the sightings in the form in which they are stored and exchanged.
func (s Sightings) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint16(b, uint16(s.First))
	b = binary.BigEndian.AppendUint16(b, uint16(s.Last))
	b = binary.BigEndian.AppendUint16(b, s.Days)
	b = append(b, flag(s.Signed))
	return binary.BigEndian.AppendUint32(b, s.recent), nil
}

// UnmarshalBinary reads what AppendBinary has written. It refuses sightings that contradict themselves.
func (s *Sightings) UnmarshalBinary(b []byte) error {
	if len(b) != sightingsSize || b[6] > 1 {
		return errEncoding
	}
	*s = Sightings{
		First: Day(binary.BigEndian.Uint16(b)), Last: Day(binary.BigEndian.Uint16(b[2:])),
		Days: binary.BigEndian.Uint16(b[4:]), Signed: b[6] == 1, recent: binary.BigEndian.Uint32(b[7:]),
	}
	if s.Days == 0 && *s != (Sightings{}) || s.Days > 0 && (s.recent&1 == 0 || s.First > s.Last) {
		return fmt.Errorf("%w: inconsistent sightings", errEncoding)
	}
	return nil
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (r *record) encode() []byte {
	b := append(make([]byte, 0, recordSize), recordVersion)
	for i := range r.seen {
		b, _ = r.seen[i].AppendBinary(b) // never fails
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.held))
	b = append(b, flag(r.released))
	return binary.BigEndian.AppendUint64(b, uint64(r.missing))
}

func decode(b []byte) (r record, err error) {
	if len(b) != recordSize || b[0] != recordVersion {
		return r, errEncoding
	}
	b = b[1:]
	for i := range r.seen {
		if err := r.seen[i].UnmarshalBinary(b[:sightingsSize]); err != nil {
			return record{}, err
		}
		b = b[sightingsSize:]
	}
	r.held, r.released, r.missing = int64(binary.BigEndian.Uint64(b)), b[8] == 1, int64(binary.BigEndian.Uint64(b[9:]))
	return r, nil
}
