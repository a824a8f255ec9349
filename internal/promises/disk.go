package promises

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// diskInterval is how often Run looks whether the database is still in its place, or can be opened again.
const diskInterval = 2 * time.Second

// pause is the least time between two writes. A change after an idle time is written immediately, and a flood of
// changes costs at most 50 writes per second: one after the other took a tenth of the processor time of cold lookups.
const pause = 20 * time.Millisecond

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

var errEncoding = errors.New("promises: unknown encoding")

// AppendBinary appends the sightings in the form in which they are stored and exchanged.
func (s Sightings) AppendBinary(b []byte) ([]byte, error) {
	return binary.Append(b, binary.BigEndian, s)
}

// UnmarshalBinary reads what AppendBinary has written. It refuses sightings that contradict themselves.
func (s *Sightings) UnmarshalBinary(b []byte) error {
	if _, err := binary.Decode(b, binary.BigEndian, s); err != nil {
		return errEncoding
	}
	if again, _ := s.AppendBinary(nil); !bytes.Equal(again, b) {
		return errEncoding
	}
	return s.check()
}

func (s *Sightings) check() error {
	if s.Days == 0 && *s != (Sightings{}) || s.Days > 0 && (s.Recent&1 == 0 || s.First > s.Last) {
		return fmt.Errorf("%w: inconsistent sightings", errEncoding)
	}
	return nil
}

const recordVersion = 1

// saved is a record as it is on disk.
type saved struct {
	Version  uint8
	Seen     [3]Sightings
	Held     uint64
	Released bool
	Missing  uint64
}

func (r *record) encode() []byte {
	s := saved{recordVersion, r.seen, uint64(r.held), r.released, uint64(r.missing)}
	b, _ := binary.Append(nil, binary.BigEndian, s) // of a fixed size: it never fails
	return b
}

func decode(b []byte) (r record, err error) {
	var s saved
	if _, err := binary.Decode(b, binary.BigEndian, &s); err != nil {
		return r, errEncoding
	}
	r = record{seen: s.Seen, held: moment(s.Held), released: s.Released, missing: moment(s.Missing)}
	if !bytes.Equal(r.encode(), b) {
		return record{}, errEncoding
	}
	return r, errors.Join(r.seen[0].check(), r.seen[1].check(), r.seen[2].check())
}
