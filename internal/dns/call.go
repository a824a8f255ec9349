package dns

// Call is a lookup that was started. It has its answer when Done is closed.
type Call struct {
	Question Question
	Done     chan struct{}
	RRset    *RRset
	Err      error
}

// Ended reports whether the lookup has ended.
func (c *Call) Ended() bool {
	select {
	case <-c.Done:
		return true
	default:
		return false
	}
}
