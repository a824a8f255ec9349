package stsstore

import (
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/policyd/policyd/internal/statedb"
)

// diskInterval is how often the store looks whether the database is still in its place, or can be opened again.
const diskInterval = 2 * time.Second

// newDisk returns the database of policies, which maps domains to what entry.encode returns. A nil openFile means os.OpenFile.
func newDisk(o *Options, openFile statedb.OpenFile) *statedb.File {
	return statedb.New(statedb.Options{
		Path: filepath.Join(o.StateDir, "mtasts.db"), Bucket: "policies-1", Log: o.Logger, OpenFile: openFile, Faults: o.Faults,
	})
}

// checkDisk opens the database if it is not open, and again if its file was removed or replaced.
func (s *Store) checkDisk() {
	if s.disk == nil {
		return
	}
	s.disk.CloseIfReplaced()
	if !s.disk.IsOpen() {
		s.openDisk(statedb.RetryLockTimeout)
	}
}

// openDisk opens the database and makes it agree with the table. The first time it reads the policies that survived the
// restart; later, after a fault, memory is newer than the disk.
func (s *Store) openDisk(lockTimeout time.Duration) {
	changed := s.table.domains() // not on disk, or not as in the table
	s.disk.Open(lockTimeout, func(b *bbolt.Bucket) error {
		err := b.ForEach(func(k, v []byte) error {
			domain := string(k)
			e, err := decode(domain, v)
			if err != nil || s.loaded || s.table.get(domain) != nil {
				changed = append(changed, domain)
				return nil //nolint:nilerr // a policy that cannot be read is removed
			}
			changed = append(changed, s.table.put(e)...)
			return nil
		})
		s.loaded = s.loaded || err == nil
		return err
	}, func(b *bbolt.Bucket) error { return s.write(b, changed) })
}

// save makes the disk agree with the table about some domains.
func (s *Store) save(domains ...string) {
	if s.disk != nil && len(domains) > 0 {
		s.disk.Update(func(b *bbolt.Bucket) error { return s.write(b, domains) })
	}
}

// write writes the policies of some domains as they are in the table, or deletes them. It looks at the table within the
// transaction, so the last change of the table is the last on disk.
func (s *Store) write(b *bbolt.Bucket, domains []string) error {
	for _, domain := range domains {
		e := s.table.get(domain)
		if e == nil {
			if err := b.Delete([]byte(domain)); err != nil {
				return err
			}
			continue
		}
		value, err := e.encode()
		if err != nil {
			return err
		}
		if err := b.Put([]byte(domain), value); err != nil {
			return err
		}
	}
	return nil
}
