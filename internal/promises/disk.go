package promises

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/statedb"
)

// diskInterval is how often Run looks whether the database is still in its place, or can be opened again.
const diskInterval = 2 * time.Second

// Run writes changes to the state directory until ctx ends, and what is left then. It returns immediately without a state
// directory. Changes that arrive during a write go together into the next one.
func (s *Store) Run(ctx context.Context) error {
	if s.disk == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.checkDisk()
			s.flush()
			return errors.Join(ctx.Err(), s.disk.Close())
		case <-tick.C:
			s.checkDisk()
		case <-s.wake:
			s.flush()
		}
	}
}

func newDisk(o Options) *statedb.File {
	return statedb.New(statedb.Options{Path: filepath.Join(o.StateDir, "promises.db"), Bucket: "promises-1", Log: o.Log, Faults: o.Faults})
}

// checkDisk opens the database if it is not open, and again if its file was removed or replaced.
func (s *Store) checkDisk() {
	s.disk.CloseIfReplaced()
	if !s.disk.IsOpen() {
		s.openDisk(statedb.RetryLockTimeout)
	}
}

// openDisk opens the database. The first time it reads what survived the restart; in any case it then makes the disk agree
// with the memory. A record that cannot be decoded is removed.
func (s *Store) openDisk(lockTimeout time.Duration) {
	s.mu.Lock()
	for domain := range s.records {
		s.dirty[domain] = struct{}{}
	}
	s.mu.Unlock()
	s.disk.Open(lockTimeout, s.read, s.write)
}

// read takes over the records of the disk, the first time it succeeds. It waits for the disk without the lock, which
// lookups need.
func (s *Store) read(b *bbolt.Bucket) error {
	found := map[string]*record{} // nil: it cannot be decoded
	err := b.ForEach(func(k, v []byte) error {
		found[string(k)] = nil
		if r, err := decode(v); err == nil {
			found[string(k)] = &r
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for domain, r := range found {
		if _, known := s.records[domain]; r == nil || known || s.loaded || len(s.records) >= s.max {
			s.dirty[domain] = struct{}{}
		} else {
			s.records[domain] = *r
		}
	}
	s.loaded = s.loaded || err == nil
	return err
}

// flush writes what has changed.
func (s *Store) flush() { s.disk.Update(s.write) }

// write makes the disk agree with the memory about the domains that have changed. If the transaction fails, the database is
// closed, and everything is written when it is opened again.
func (s *Store) write(b *bbolt.Bucket) error {
	for domain, value := range s.changes() {
		var err error
		if value == nil {
			err = b.Delete([]byte(domain))
		} else {
			err = b.Put([]byte(domain), value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changes returns the encoded records that have changed since the last call, nil for a domain that was removed.
func (s *Store) changes() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := make(map[string][]byte, len(s.dirty))
	for domain := range s.dirty {
		if r, ok := s.records[domain]; ok {
			changes[domain] = r.encode()
		} else {
			changes[domain] = nil
		}
	}
	clear(s.dirty)
	return changes
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
