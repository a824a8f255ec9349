package stub

// FollowResolvConf is followResolvConf for tests that need dnstest, which imports this package.
func (s *Stub) FollowResolvConf() { s.followResolvConf() }

// Close closes the connections to the servers, as Run does at its end.
func (s *Stub) Close() { s.now.Load().transport.close() }
