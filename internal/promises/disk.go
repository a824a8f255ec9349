package promises

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// diskInterval is how often Run looks whether the database is still in its place, or can be opened again.
const diskInterval = 2 * time.Second

// pause is the least time between two writes. A change after an idle time is written at once, and a flood of changes
// costs ten writes a second: one after the other took a tenth of the processor time of cold lookups.
const pause = 100 * time.Millisecond

// Run writes changes to the state directory until ctx ends, and what is left then. Changes that arrive during a write
// and the pause after it go together into the next one.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.disk.Close())
		case <-tick.C:
			s.disk.Sync()
		case <-s.wake:
			s.disk.Save()
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// encoded returns a record in the form in which it is on disk.
func (s *Store) encoded(domain string) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.records[domain]
	if !ok {
		return nil
	}
	return r.encode()
}

// load takes over a record from the disk, unless the domain has one that is newer.
func (s *Store) load(domain string, value []byte) bool {
	r, err := decode(value)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.records[domain]; err != nil || known || len(s.records) >= s.max {
		return false
	}
	s.records[domain] = r
	return true
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
	r.held, r.released, r.missing = moment(binary.BigEndian.Uint64(b)), b[8] == 1,
		moment(binary.BigEndian.Uint64(b[9:]))
	return r, nil
}
