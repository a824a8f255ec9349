// Package blocked notices that this host cannot reach any other: an outbound port is blocked, a proxy is needed, or
// there are no root certificates. Only reports to the operator depend on it.
package blocked

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/policyd/policyd/internal/address"
)

// Enough is how many names, in as many networks, must fail before this host counts as blocked.
const Enough = 5

// Detector collects failures. The zero value is ready to use, and it may be used concurrently.
type Detector struct {
	mu       sync.Mutex
	failures []failure // failures since the last success: at most Enough, each with its own name and network
	success  time.Time // the last success
	since    time.Time // when this host was found to be blocked; zero if it is not
}

type failure struct {
	name    string
	network netip.Prefix
}

// Failed notes that a name could not be reached at its address, and that it has been failing since first. It does not
// count if first is before the last success. If only a proxy knows the address, pass an invalid one. Set open while
// another host shows that the port is open. Failed reports whether this call found this host to be blocked.
func (d *Detector) Failed(name string, addr netip.Addr, first time.Time, open bool) bool {
	network := address.Network(addr)
	if address.Special(addr) { // in loopback and private networks each address counts as a network
		network = netip.PrefixFrom(addr, addr.BitLen())
	}
	known := func(f failure) bool { return f.name == name || f.network == network && network.IsValid() }
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.failures) < Enough && !first.Before(d.success) && !slices.ContainsFunc(d.failures, known) {
		d.failures = append(d.failures, failure{name, network})
	}
	if open || len(d.failures) < Enough || !d.since.IsZero() {
		return false
	}
	d.since = time.Now()
	return true
}

// Succeeded notes that a name could be reached. It returns when this host became blocked; zero if it was not.
func (d *Detector) Succeeded() (since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, d.since, d.success, d.failures = d.since, time.Time{}, time.Now(), nil
	return since
}

// Since returns when this host was found to be blocked, or the zero time if it is not.
func (d *Detector) Since() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.since
}
