package probe

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/policyd/policyd/internal/blocked"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
	"github.com/policyd/policyd/internal/statedb"
	"github.com/policyd/policyd/prefix"
)

// The bounds on memory and work.
const (
	maxHosts   = 16384         // hosts that are remembered
	maxEvicted = maxHosts / 16 // hosts that are forgotten together when there are too many
	maxProbes  = 32            // hosts probed concurrently
)

// Options are for probes. All are required except Roots, StateDir, Helo, Postfix and DANE.
type Options struct {
	Port     uint16         // the port of implicit TLS
	Roots    *x509.CertPool // the trusted roots; nil means the system's
	Special  bool           // allows special-purpose addresses: for tests and private networks
	Resolver dns.Starter    // looks up the addresses of hosts
	// StateDir keeps the verdicts across restarts, in the file probes.db; "" keeps them in memory only. It is read by
	// New only, and so is Logger for that file.
	StateDir string
	Helo     string        // as in smtptls.Dialogue
	Postfix  smtptls.Judge // as in smtptls.Dialogue; an open host needs its verdict too
	// DANE returns an error if the host has usable TLSA records for the port and none of them matches the certificate
	// of a session: Postfix would refuse that host. If DANE is nil, TLSA records do not matter.
	DANE   func(ctx context.Context, host string, s *smtptls.Session) error
	Logger *slog.Logger
}

// Prober has the verdicts. Make one with New and Run it.
type Prober struct {
	dialogue func(context.Context, smtptls.Dialogue) smtptls.Transcript // smtptls.RunDialogue, except in tests
	slots    *semaphore.Weighted                                        // one per host that is being probed
	rates    *rates
	shared   singleflight.Group // calls of Probe, by host
	wakeUp   chan struct{}      // a token where something may have become due sooner

	options atomic.Pointer[Options]
	hosts   *statedb.Table[*host] // its lock guards what follows too
	egress  *blocked.Detector     // the port is filtered on our side
	results map[string]uint64     // probes since the start, as in Stats
}

// host is what is known about one host.
type host struct {
	name          string
	verdict       Verdict
	asked         time.Time     // when it was last wanted
	wanted        bool          // it is due for a probe, now or after its wait
	probing       bool          // a probe has begun; wanted then asks for another
	retry         time.Time     // when a closed host, or one whose probe failed on our side, may be probed again
	closedBackOff time.Duration // the back-off that led to retry
	failedBackOff time.Duration // the back-off after probes that failed on our side
	allowanceFull time.Time     // when an open host has its whole allowance of probes again
}

// open reports whether the last probe with a verdict found the host open.
func (h *host) open() bool { return h.verdict.State == Open }

// openFirst compares two hosts in an order in which open ones come first.
func openFirst(a, b *host) int {
	switch {
	case a.open() == b.open():
		return 0
	case a.open():
		return -1
	}
	return 1
}

// New returns a Prober with the verdicts that the state directory has.
func New(o Options) *Prober {
	p := &Prober{
		dialogue: smtptls.RunDialogue, slots: semaphore.NewWeighted(maxProbes), rates: newRates(),
		wakeUp: make(chan struct{}, 1), egress: &blocked.Detector{}, results: map[string]uint64{},
	}
	p.options.Store(&o)
	p.hosts = statedb.New(statedb.Options[*host]{
		Dir: o.StateDir, Name: "probes.db", Bucket: "probes-1", Log: o.Logger,
		Max: maxHosts, LastUse: func(h *host) int64 { return h.asked.Unix() },
		Encode: p.encode, Decode: p.decode,
	})
	return p
}

// Configure puts new options into effect. A change of the port, the roots or the allowed addresses voids all verdicts.
func (p *Prober) Configure(o Options) {
	p.hosts.Lock()
	defer p.hosts.Unlock()
	before := p.options.Swap(&o)
	if before.Port != o.Port || before.Special != o.Special || !before.Roots.Equal(o.Roots) {
		for name := range p.hosts.Records {
			p.hosts.Delete(name)
		}
		p.egress = &blocked.Detector{}
	}
}

// hostName returns the name under which a host is known, and false for a name that makes no promise about the port.
func hostName(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name, prefix.Of(name).ImplicitTLS()
}

// Verdict returns what is known about a host: Unknown for a host that was never wanted. It never blocks, and it
// neither causes a probe nor keeps the host from being forgotten: smtpd(8) reads the transport map for every envelope
// sender, so untrusted senders choose these names. The name is in lower case.
func (p *Prober) Verdict(name string) Verdict {
	p.hosts.RLock()
	defer p.hosts.RUnlock()
	if h := p.hosts.Records[name]; h != nil {
		return h.valid(wallClock())
	}
	return Verdict{}
}

// Get returns what is known about a host, like Verdict, in the form that operators see.
func (p *Prober) Get(name string) Entry {
	v := p.Verdict(name)
	return Entry{
		Host: name, State: v.State.String(), Cause: strings.ReplaceAll(string(v.Cause), " ", "-"),
		Checked: v.Checked, Expires: v.Expires, Why: v.Why,
	}
}

// Want makes a host due for a probe, because mail is about to go to it; the package comment describes when the probe
// starts. It never blocks. A name that is not that of an smtps- host is ignored.
func (p *Prober) Want(name string) {
	name, ok := hostName(name)
	if !ok {
		return
	}
	now := wallClock()
	p.hosts.Lock()
	defer p.hosts.Unlock()
	h := p.wantedHost(name, now)
	// The verdict of a probe does not reflect the outcome of mail to an open host that was sent while the probe ran.
	if !h.wanted && (!h.probing || h.valid(now).State == Open) {
		h.wanted = true
		p.notify(h, now)
	}
}

// wallClock returns the system time, which may jump: verdicts outlive a restart, and certificates expire by it. A
// verdict from its future is not used.
func wallClock() time.Time { return time.Now().UTC().Round(0) }

// valid returns the verdict as far as it may be used at a moment. A verdict that has expired, or that was made before
// the clock was set back, is Unknown.
func (h *host) valid(now time.Time) Verdict {
	v := h.verdict
	if v.State != Unknown && (now.Before(v.Checked) || !now.Before(v.Expires)) {
		return Verdict{Why: "the last probe is too long ago"}
	}
	return v
}

// wantedHost returns a host and notes that it is wanted now. A new host is added; p.hosts is locked.
func (p *Prober) wantedHost(name string, now time.Time) *host {
	h := p.hosts.Records[name]
	if h == nil {
		if len(p.hosts.Records) >= maxHosts {
			p.evict()
		}
		h = &host{name: name}
		p.hosts.Put(name, h)
	}
	h.asked = now
	return h
}

// evict forgets the hosts that were not wanted for longest, open ones after all others; p.hosts is locked.
func (p *Prober) evict() {
	all := slices.SortedFunc(maps.Values(p.hosts.Records), func(a, b *host) int {
		return cmp.Or(openFirst(b, a), a.asked.Compare(b.asked))
	})
	for _, h := range all[:maxEvicted] {
		p.hosts.Delete(h.name)
	}
}

// Stats are counters since the start, and the size. Their JSON form is stable.
type Stats struct {
	Hosts          map[string]uint64 `json:"hosts"`           // known hosts by state: open, closed and unknown
	EgressFiltered bool              `json:"egress_filtered"` // the port appears to be blocked on our side
	// Results counts probes by what they found: "open", the cause of a closed host with hyphens in place of spaces, or
	// "unknown" where the probe failed on our side.
	Results map[string]uint64 `json:"results"`
}

// Stats returns the counters as they are.
func (p *Prober) Stats() Stats {
	p.hosts.Lock()
	defer p.hosts.Unlock()
	hosts := map[string]uint64{Open.String(): 0, Closed.String(): 0, Unknown.String(): 0}
	for _, h := range p.hosts.Records {
		hosts[h.verdict.State.String()]++
	}
	return Stats{Results: maps.Clone(p.results), Hosts: hosts, EgressFiltered: !p.egress.Since().IsZero()}
}
