package stsstore

// put puts an entry in the table and on disk.
func (s *Store) put(e *entry) {
	s.disk.Mark(append(s.table.put(e, s.options.Load().MaxPolicies), e.domain)...)
	s.disk.Save()
}

// encoded returns a policy in the form in which it is on disk, nil if there is none.
func (s *Store) encoded(domain string) []byte {
	e := s.table.get(domain)
	if e == nil {
		return nil
	}
	return e.encode(e.fetched)
}

// load takes over a policy from the disk. A policy that was fetched since the start is newer.
func (s *Store) load(domain string, value []byte) bool {
	e, err := decode(domain, value)
	if err != nil || s.table.get(domain) != nil {
		return false
	}
	s.disk.Mark(s.table.put(e, s.options.Load().MaxPolicies)...)
	return true
}
