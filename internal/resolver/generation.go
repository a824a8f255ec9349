package resolver

// Generation tells answers of different worlds apart. An answer that was secure in one world is not in
// another: the servers, the trust in them or their self-test has changed.
type Generation struct {
	// Secure changes whenever secure answers of before are void.
	Secure uint64
	// Any changes when all answers of before are void: the resolver validates now, or may validate, and did not
	// before, so what was insecure may be secure.
	Any uint64
}
