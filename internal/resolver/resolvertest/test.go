package resolvertest

import "testing"

// New starts a server on 127.0.0.1 for a test and stops it with it.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := Start("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
