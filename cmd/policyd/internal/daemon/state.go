package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
)

// Explain evaluates a next hop with what the daemon knows, for policyd query --live. Of an e-mail address it evaluates
// the domain, so that no local part is shown.
func (d *Daemon) Explain(ctx context.Context, key string) lookup.Explanation {
	return lookup.Explain(ctx, d.sources(), admin.DomainOf(key), d.loaded.Load().Lookup())
}

func (d *Daemon) stubOptions(l *settings.Loaded) stub.Options {
	o := l.Stub(d.log)
	o.ResolvConf, o.Off = d.options.ResolvConf, off(l)
	if d.metrics != nil {
		o.Observe = d.metrics.Query
	}
	return o
}

// configureSecond applies settings to the resolver for second opinions, if there is one.
func (d *Daemon) configureSecond(l *settings.Loaded) error {
	if o, ok := l.SecondOpinion(d.log); ok && d.second != nil {
		return d.second.Configure(o)
	}
	return nil
}

func (d *Daemon) storeOptions(l *settings.Loaded) stsstore.Options {
	o := l.Store(d.cache, d.log)
	o.MaxPolicies = d.maxPolicies
	if d.metrics != nil {
		o.Observe = d.metrics.Fetch
	}
	o.Fetched = func(domain string) { d.share(fleet.Policy, domain) }
	return o
}

// off reports whether the mode is "off". Then no DNS query is sent, not even those of the self-test.
func off(l *settings.Loaded) bool { return l.PolicyOptions().Mode == policy.ModeOff }

// readiness returns what lookups wait for. It is asked when all listeners are open; running ends when the daemon starts
// to stop.
func (d *Daemon) readiness(running context.Context) error {
	if running.Err() != nil {
		return errors.New("policyd is stopping")
	}
	if st := d.stub.State(); st.Result == stub.Unknown && !off(d.loaded.Load()) {
		return fmt.Errorf("the self-test of the resolver has no result: %s", st.Reason)
	}
	return nil
}
