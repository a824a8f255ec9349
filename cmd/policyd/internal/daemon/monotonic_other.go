//go:build !linux

package daemon

// monotonic has no meaning without systemd.
func monotonic() string { return "" }
