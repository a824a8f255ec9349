package stsstore

import "go.etcd.io/bbolt"

// BreakDisk closes the database behind the back of a store, so that every use of it fails from now on.
func (s *Store) BreakDisk() error { return s.disk.db.Close() }

// FreezeDisk has the database be what it is on a disk that is read-only at the start.
func (s *Store) FreezeDisk() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	err := s.disk.db.Close()
	if err == nil {
		s.disk.db, err = openFile(s.disk.path, &bbolt.Options{ReadOnly: true})
	}
	s.disk.frozen, s.disk.troubled = true, true
	return err
}

// Loaded reports whether everything on disk is in memory.
func (s *Store) Loaded() bool { return s.loaded.Load() }

// MaxFlights is how many policies are fetched at a time.
const MaxFlights = maxFlights
