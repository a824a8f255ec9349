package resolver

// FollowResolvConf is followResolvConf for tests that need resolvertest, which imports this package.
func (s *Stub) FollowResolvConf() { s.followResolvConf() }
