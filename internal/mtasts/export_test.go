package mtasts

import "context"

// FetchBy has a store fetch by f instead of over HTTPS.
func (s *Store) FetchBy(f func(ctx context.Context, domain string) (Policy, error)) {
	s.fetch = func(ctx context.Context, domain string, _ *StoreOptions) (Policy, error) { return f(ctx, domain) }
}

// BreakDisk closes the database behind the back of a store, so that every use of it fails from now on.
func (s *Store) BreakDisk() error { return s.disk.db.Close() }

// Loaded reports whether everything on disk is in memory.
func (s *Store) Loaded() bool { return s.loaded.Load() }

// MaxFlights is how many policies are fetched at a time.
const MaxFlights = maxFlights
