package socketmap

// Idle returns how many connections are marked as idle: the mark comes after the reply that a client sees.
func (s *Server) Idle() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.conns {
		if c.state.Load() > working {
			n++
		}
	}
	return n
}
