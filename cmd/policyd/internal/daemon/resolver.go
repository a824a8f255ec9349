package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/stub"
)

// off reports whether the mode is "off". Then no DNS query is sent, not even those of the self-test.
func (d *Daemon) off() bool { return d.loaded.Load().PolicyOptions().Mode == policy.ModeOff }

// readiness returns what lookups wait for. It is asked when all listeners are open; running ends when the daemon starts
// to stop.
func (d *Daemon) readiness(running context.Context) error {
	if running.Err() != nil {
		return errors.New("policyd is stopping")
	}
	if st := d.stub.State(); st.Result == stub.Unknown && !d.off() {
		return fmt.Errorf("the self-test of the resolver has no result: %s", st.Reason)
	}
	return nil
}
