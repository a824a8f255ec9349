package stub

// FollowResolvConf is followResolvConf for tests that need dnstest, which imports this package.
func (s *Stub) FollowResolvConf() { s.followResolvConf() }

// Close closes the connections to the servers, as Run does at its end.
func (s *Stub) Close() { s.current.Load().close() }

// Silent returns the servers that did not answer when they were last asked.
func (s *Stub) Silent() (list []string) {
	for _, server := range s.current.Load().servers {
		if server.failing.Load() {
			list = append(list, server.String())
		}
	}
	return list
}
