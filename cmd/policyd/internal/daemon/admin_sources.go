package daemon

import "github.com/policyd/policyd/cmd/policyd/internal/admin"

// mtastsStatus is how the store of MTA-STS policies is doing; nil: there is none.
func (d *Daemon) mtastsStatus() *admin.MTASTS { return nil }

// storedPolicy is what the store has for a domain; nil: nothing.
func (d *Daemon) storedPolicy(string) *admin.StoredPolicy { return nil }

// flushPolicy has the store forget a domain, and returns how many policies that were.
func (d *Daemon) flushPolicy(string) int { return 0 }

// probeStatus is what the prober knows; nil: there is none.
func (d *Daemon) probeStatus() *admin.Probes { return nil }

// probesOf are the verdicts on hosts.
func (d *Daemon) probesOf([]string) []admin.Probe { return []admin.Probe{} }
