// Package lab is a small internet on one machine: a private DNS root with signed and unsigned zones, behind real
// unbound; a private certificate authority; receivers that behave as a test sets them up and record their connections;
// one Postfix that uses one policyd. It runs inside Isolated, on addresses in 127.0.0.0/8 and one IPv6 network.
package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/lab/zone"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
)

// The lab's own names.
const (
	OwnDomain    = "own.test"
	HostedDomain = "hosted.test" // also received here, but not in the guard map
	User         = "someone@" + OwnDomain
	Hostname     = "mail." + OwnDomain
	// IPv6 has its own part: a network of receivers and an address to come from.
	v6Network = "fd00:26::/32"
	ownV6     = "fd00:27::1"
)

// Lab is the whole lab. Make one inside Isolated, add hosts and records, and Start it. Wrong hosts and records panic.
type Lab struct {
	Dir       string // its files; removed with the lab
	Authority *smtptest.CA
	Postfix   *Postfix
	Policyd   *Policyd
	Resolver  *Server // Postfix's own, in /etc/resolv.conf
	Upstream  *Server // policyd's: the same zones, so that it can be away while Postfix has its own

	tree    *zone.Tree
	lines   map[string]string // further lines of files, by path
	reports *daemon.Log       // the reports of Postfix to a TLSRPT collector; nil if there is no collector

	receivers []*Receiver
	webs      []*PolicyHost
	replacing sync.Mutex
}

// Options are the options of New.
type Options struct {
	Policyd string // the binary
	Source  string // the top of the source tree, where the Postfix examples are
	// System has the files of another Debian release, whose Postfix the lab uses; "" is the installed one.
	System string
	// Settings are added to main.cf.
	Settings string
}

// New returns a lab that is not yet running.
func New(o Options) (l *Lab, err error) {
	dir := os.Getenv(insideEnv)
	if dir == "" {
		return nil, errors.New("lab: New was called outside of Isolated")
	}
	err = must.Catch(func() {
		l = &Lab{Dir: dir, Authority: smtptest.NewCA(Must{}), lines: map[string]string{}}
		// Nearly all domains are names in test., and most other zones are each broken in one way.
		l.tree = must.Get(zone.NewTree(l.zones(), []zone.Zone{
			{Origin: "."}, {Origin: "test.", Broken: []string{"_25._tcp.mx.tlsabroken.test. TLSA"}},
			{Origin: "nsec3.test.", State: zone.Signed3}, {Origin: "unsigned.test.", State: zone.Unsigned},
			{Origin: "expired.test.", State: zone.Expired}, {Origin: "wrongds.test.", State: zone.WrongDS},
		}))
		l.Resolver, l.Upstream = l.newUnbound("resolver", "127.0.0.1:53"), l.newUnbound("upstream", "127.0.0.1:5353")
		l.Policyd = newPolicyd(o.Policyd, dir, l.Upstream.Addr)
		l.Postfix = &Postfix{source: o.Source, dir: dir, more: o.Settings}
		if o.System != "" {
			l.Postfix.system = enterPostfix(o.System, dir)
		}
		l.Records(Hostname+". A 127.0.0.1", zone.NameServer+" A "+AuthorityAddr.Addr().String())
	})
	return l, err
}

// Host describes a receiver.
type Host struct {
	Name   string
	On25   Behaviour
	On26   Behaviour
	Flaw   Flaw // the flaw of its certificate, on both ports
	Flaw26 Flaw // the flaw of the certificate on port 26, if that is another one
	// Addrs are its addresses; nil is one address of its own.
	Addrs []netip.Addr
}

// Host adds a receiver and its address records.
func (l *Lab) Host(h Host) *Receiver {
	if h.Addrs == nil {
		// Every host has its own network, as on the internet: policyd limits its connections per network.
		h.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 20, byte(len(l.receivers) + 1), 1})}
	}
	r := NewReceiver(h.Name, h.Addrs)
	l.receivers = append(l.receivers, r)
	for _, a := range h.Addrs {
		t := "A"
		if a.Is6() {
			t = "AAAA"
		}
		l.Records(fmt.Sprintf("%s. %s %s", h.Name, t, a))
	}
	must.Do(r.Serve(25, h.On25, Issue(l.Authority, h.Name, h.Flaw)),
		r.Serve(26, h.On26, Issue(l.Authority, h.Name, cmp.Or(h.Flaw26, h.Flaw))))
	return r
}

// InHostsFile adds a receiver to /etc/hosts. Call it before Start.
func (l *Lab) InHostsFile(r *Receiver) {
	l.lines["/etc/hosts"] += fmt.Sprintf("%s %s\n", r.Addrs[0], r.Name)
}

// TLSA adds the DANE-EE record that fits the certificate of a receiver's port.
func (l *Lab) TLSA(r *Receiver, port int) {
	key := sha256.Sum256(r.Certificate(port).Leaf.RawSubjectPublicKeyInfo)
	l.Records(fmt.Sprintf("_%d._tcp.%s. TLSA 3 1 1 %x", port, r.Name, key))
}

// MX adds MX records of a domain, best hosts first; those of one preference are separated by a space.
func (l *Lab) MX(domain string, groups ...string) {
	const step = 10
	for i, g := range groups {
		for host := range strings.FieldsSeq(g) {
			l.Records(fmt.Sprintf("%s. MX %d %s.", domain, step*(i+1), host))
		}
	}
}

// Records adds records with absolute owner names, such as "a.test. MX 10 b.test.".
func (l *Lab) Records(records ...string) { must.Do(l.tree.Add(records...)) }

// Replace replaces an RRset by a record with a TTL of one second while the lab runs. Resolvers use it immediately.
func (l *Lab) Replace(ctx context.Context, owner, rrtype, data string) {
	l.replacing.Lock()
	defer l.replacing.Unlock()
	must.Do(l.tree.Set(owner, rrtype, 1, data), l.tree.Write())
	for _, s := range []*Server{l.Resolver, l.Upstream} {
		s.reload(ctx, l.tree.Origin(owner), owner)
	}
}

// Start starts everything: the resolvers, policyd and Postfix.
func (l *Lab) Start(ctx context.Context) error {
	return must.Catch(func() {
		must.Do(l.Prepare())
		must.Do(l.Resolver.Start(ctx), l.Upstream.Start(ctx))
		must.Do(l.Policyd.Start(ctx))
		if l.reports != nil {
			collect(l.Postfix.path("/var/spool/postfix/"+ReportSocket), l.reports)
		}
		must.Do(l.Postfix.Start(ctx))
	})
}

// Prepare writes the zones and the files of the machine. Start calls it; a test that starts programs itself does too.
func (l *Lab) Prepare() error {
	files := map[string]string{
		filepath.Join(l.zones(), "anchor"): l.tree.Anchor(),
		l.CAFile():                         string(l.Authority.PEM()),
		filepath.Join(l.Dir, "policies"):   "",
		"/etc/resolv.conf":                 "nameserver " + l.Resolver.Addr.Addr().String() + "\n",
		"/etc/hosts":                       "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 " + Hostname + "\n",
		"/etc/hostname":                    Hostname + "\n",
	}
	for path, text := range files {
		_ = os.Remove(path) // it may be a link to somewhere else
		if err := write(path, text+l.lines[path]); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return l.tree.Write()
}

func (l *Lab) zones() string { return filepath.Join(l.Dir, "zones") }

// Policy adds a line to the table /lab/policies, for main.cf.
func (l *Lab) Policy(domain, policy string) {
	l.lines[filepath.Join(l.Dir, "policies")] += domain + " " + policy + "\n"
}

// CAFile is where the private authority's certificate is.
func (l *Lab) CAFile() string { return filepath.Join(l.Dir, "ca.pem") }

// Close ends all that the lab started.
func (l *Lab) Close() {
	l.Postfix.Stop()
	l.Policyd.close()
	l.Resolver.Kill()
	l.Upstream.Kill()
	for _, r := range l.receivers {
		r.Close()
	}
	for _, w := range l.webs {
		w.Close()
	}
}
