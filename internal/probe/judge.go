package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/policyd/policyd/internal/address"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/smtptls"
)

// MaxAddresses is how many addresses a host may have. A host with more is closed, because a host is open only after a
// probe of every address.
const MaxAddresses = 16

const (
	sideBySide    = 4 // connections to different addresses of one host
	lookupTimeout = 15 * time.Second
	openFor       = 2 * time.Hour  // an open verdict without a re-check
	closedFor     = 24 * time.Hour // a closed one
)

// finding is what a probe of a host has found out.
type finding struct {
	// verdict is Unknown where the probe failed on our side: what was known before still holds.
	verdict Verdict
	// late is set when a rate does not allow the probe yet: try again after it.
	late time.Duration
	// connected is set when an address took a connection on the port: it is not filtered on our side.
	connected bool
	// first is the address that stands for the host.
	first netip.Addr
}

func unknown(why string) finding { return finding{verdict: Verdict{Why: smtptls.Tidy(why)}} }

func closed(c smtptls.Cause, why string) finding {
	return finding{verdict: Verdict{State: Closed, Cause: c, Why: smtptls.Tidy(why)}}
}

// Addresses looks up the A and the AAAA addresses of a host, each once, A first. The error is that of the
// first lookup that failed: then not all addresses are known.
func Addresses(ctx context.Context, res dns.Resolver, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	types := [...]dns.Type{dns.TypeA, dns.TypeAAAA}
	var found [len(types)][]netip.Addr
	var group errgroup.Group
	for i, t := range types {
		group.Go(func() error {
			// Strangers choose the hosts, so the cache is not to refresh them.
			rrset, err := res.Lookup(ctx, dns.Question{Name: host, Type: t}, dns.Effort{Untrusted: true})
			if err != nil {
				return err
			}
			found[i] = rrset.Addrs()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := make([]netip.Addr, 0, len(found[0])+len(found[1]))
	seen := map[netip.Addr]bool{}
	for _, list := range found {
		for _, a := range list {
			if !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	return all, nil
}

// examine probes one host: every address it has, or none. limited is set for a probe that keeps to the rates.
func (p *Prober) examine(ctx context.Context, name string, o *Options, limited bool) finding {
	addrs, err := Addresses(ctx, o.Resolver, name)
	if err != nil {
		return unknown("the addresses could not be looked up: " + dns.Reason(err))
	}
	if len(addrs) == 0 {
		return closed(smtptls.NoAddress, "the host has no address")
	}
	// One special address among others closes the host: the others alone are not "every address", and Postfix
	// would connect to this one too.
	if _, special := address.Split(addrs); !o.Special && len(special) > 0 {
		return closed(smtptls.AddressNotAllowed, "special-purpose addresses are not allowed: "+address.Join(special))
	}
	if len(addrs) > MaxAddresses {
		return closed(smtptls.AddressNotAllowed, fmt.Sprintf("the host has %d addresses, over %d", len(addrs),
			MaxAddresses))
	}
	if limited {
		connections := addrs
		if o.Postfix != nil {
			connections = append(slices.Clone(addrs), addrs...) // it connects once more to each
		}
		if late := p.rates.admit(ctx, connections); late > 0 {
			return finding{late: late, verdict: Verdict{Why: "put off: its network has been probed a lot"}}
		}
	}
	heard := make([]smtptls.Transcript, len(addrs))
	var group errgroup.Group
	group.SetLimit(sideBySide)
	for i, a := range addrs {
		group.Go(func() (err error) {
			heard[i], err = p.hear(ctx, smtptls.Dialogue{
				Host: name, Addr: netip.AddrPortFrom(a, o.Port), Implicit: true, Helo: o.Helo, Roots: o.Roots,
				Postfix: o.Postfix,
			}, o.Logger)
			return err
		})
	}
	if err := group.Wait(); err != nil { // what failed otherwise is in the transcripts
		return unknown(err.Error())
	}
	f := judge(heard)
	f.first = addrs[0]
	return f
}

// Judge makes the verdict about a host from dialogues in implicit TLS with all its addresses, held now.
func Judge(heard []smtptls.Transcript) Verdict {
	return judge(heard).verdict.dated(wallClock())
}

// judge makes the verdict of a host from the dialogues with all its addresses. A wrong answer from any address closes
// the host, because Postfix picks the address; so does silence of all addresses. A silent address next to a good one
// only costs Postfix a connect timeout. A failure on our side is not a verdict, and where the address answered, the
// host is not open either.
func judge(heard []smtptls.Transcript) finding {
	var f finding
	var silent, ours *smtptls.Transcript
	var right int
	var pending bool // an address answers, and what it is like is not known
	for i := range heard {
		t := &heard[i]
		f.connected = f.connected || t.Connected()
		switch {
		case f.verdict.State == Closed:
		case t.OK():
			end := wallClock().Add(openFor)
			if t.Session != nil { // otherwise only Postfix could speak with it
				end = t.Session.NotAfter
			}
			if f.verdict.State == Unknown || end.Before(f.verdict.Expires) {
				f.verdict.Expires = end
			}
			f.verdict.State = Open
			right++
		case t.Ours:
			ours, pending = t, pending || t.Connected()
		case t.Silent:
			silent = t
		default:
			f.verdict = closed(t.Cause, because(t, heard)).verdict
		}
	}
	switch {
	case f.verdict.State == Closed:
	case pending:
		f.verdict = unknown(because(ours, heard)).verdict
	case right > 0:
		f.verdict.Why = fmt.Sprintf("%d of %d addresses: implicit TLS with a valid certificate", right, len(heard))
	case silent != nil:
		f.verdict = closed(silent.Cause, because(silent, heard)).verdict
	case ours != nil:
		f.verdict = unknown(because(ours, heard)).verdict
	}
	return f
}

// because returns what happened at each address that is not right: first the one that decides, then the others.
func because(first *smtptls.Transcript, heard []smtptls.Transcript) string {
	why := []string{first.Addr.Addr().String() + ": " + first.Why}
	for i := range heard {
		if t := &heard[i]; t != first && !t.OK() {
			why = append(why, t.Addr.Addr().String()+": "+t.Why)
		}
	}
	return strings.Join(why, "; ")
}

// dated puts the times into a verdict that was found now.
func (v Verdict) dated(now time.Time) Verdict {
	switch v.State {
	case Open:
		v.Checked = now
		if bound := now.Add(openFor); bound.Before(v.Expires) {
			v.Expires = bound
		}
	case Closed:
		v.Checked, v.Expires = now, now.Add(closedFor)
	case Unknown:
	}
	return v
}
