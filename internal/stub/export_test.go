package stub

// FollowResolvConf is followResolvConf for tests that need dnstest, which imports this package.
func (s *Stub) FollowResolvConf() { s.followResolvConf() }

// Close closes the connections to the servers, as Run does at its end.
func (s *Stub) Close() { s.now.Load().transport.close() }

// Silent returns the servers that did not answer when they were last asked.
func (s *Stub) Silent() (list []string) {
	now := s.now.Load()
	now.health.mu.Lock()
	defer now.health.mu.Unlock()
	for _, server := range now.servers {
		if now.health.servers[server].failing {
			list = append(list, server.String())
		}
	}
	return list
}
