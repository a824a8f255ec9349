package stub

// FollowResolvConf is followResolvConf for tests that need dnstest, which imports this package.
func (s *Stub) FollowResolvConf() { s.followResolvConf() }
