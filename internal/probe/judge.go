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

// finding is what a probe of a host has found out. Its Verdict is Unknown where the probe failed on our side: what was
// known before still holds.
type finding struct {
	Verdict
	// late is set when a rate does not allow the probe yet: try again after it.
	late  time.Duration
	heard []smtptls.Transcript // of all its addresses, if it was connected to
}

func unknown(why string) Verdict { return Verdict{Why: smtptls.Tidy(why)} }

func closed(c smtptls.Cause, why string) Verdict {
	now := wallClock()
	return Verdict{State: Closed, Cause: c, Checked: now, Expires: now.Add(closedFor), Why: smtptls.Tidy(why)}
}

// addresses looks up the addresses of a host, and returns each once, IPv4 first. After an error, not all are known.
func addresses(ctx context.Context, res dns.Starter, host string) (all []netip.Addr, err error) {
	// Remote parties choose the hosts, so the cache must not refresh them.
	next, until := dns.Addresses(ctx, res, host, dns.Effort{Untrusted: true}, false), time.Now().Add(lookupTimeout)
	for range 2 { // families
		call := next(until)
		if call.Err != nil {
			return nil, call.Err
		}
		all = append(all, call.RRset.Addrs()...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// examine probes one host: every address it has, or none. limited is set for a probe that keeps to the rates.
func (p *Prober) examine(ctx context.Context, name string, o *Options, limited bool) finding {
	addrs, err := addresses(ctx, o.Resolver, name)
	_, special := address.Ordinary(addrs)
	switch {
	case err != nil:
		return finding{Verdict: unknown("the addresses could not be looked up: " + dns.Reason(err))}
	case len(addrs) == 0:
		return finding{Verdict: closed(smtptls.NoAddress, "the host has no address")}
	case !o.Special && special != nil:
		// One among others closes the host: the others alone are not "every address", and Postfix would connect to
		// this one too.
		return finding{Verdict: closed(smtptls.AddressNotAllowed, special.Error())}
	case len(addrs) > MaxAddresses:
		return finding{Verdict: closed(smtptls.AddressNotAllowed,
			fmt.Sprintf("the host has %d addresses, over %d", len(addrs), MaxAddresses))}
	}
	if limited {
		connections := addrs
		if o.Postfix != nil {
			connections = slices.Repeat(addrs, 2) // it connects once more to each
		}
		if late := p.rates.admit(connections); late > 0 {
			return finding{late: late, Verdict: unknown("put off: its network has been probed a lot")}
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
			}, o)
			return err
		})
	}
	if err := group.Wait(); err != nil { // what failed otherwise is in the transcripts
		return finding{Verdict: unknown(err.Error())}
	}
	f := finding{Verdict: Judge(heard), heard: heard}
	if f.State == Open && !f.Checked.Before(f.Expires) {
		f.Verdict = closed(smtptls.CertificateExpired, "the certificate has just expired")
	}
	return f
}

// Judge makes the verdict of a host from the dialogues in implicit TLS with all its addresses. A wrong answer from any
// address closes the host, because Postfix picks the address; so does silence of all addresses. A silent address next
// to a good one only costs Postfix a connect timeout. A failure on our side is not a verdict, and where the address
// answered, the host is not open either.
func Judge(heard []smtptls.Transcript) Verdict {
	now := wallClock()
	end := now.Add(openFor)
	var right, wrong, pending, silent, ours []*smtptls.Transcript
	for i := range heard {
		kind, t := &wrong, &heard[i]
		switch {
		case t.OK():
			kind = &right
			if t.Session != nil && t.Session.NotAfter.Before(end) { // without one, only Postfix could speak with it
				end = t.Session.NotAfter
			}
		case t.Ours() && t.Connected:
			kind = &pending // what it is like is not known
		case t.Ours():
			kind = &ours
		case t.Silent():
			kind = &silent
		}
		*kind = append(*kind, t)
	}
	bad := slices.Concat(wrong, pending, silent, ours) // the address that decides comes first
	why := make([]string, len(bad))
	for i, t := range bad {
		why[i] = t.Addr.Addr().String() + ": " + t.Why
	}
	all := strings.Join(why, "; ")
	switch {
	case len(wrong) > 0:
		return closed(wrong[0].Cause, all)
	case len(pending) > 0:
		return unknown(all)
	case len(right) > 0:
		return Verdict{State: Open, Checked: now, Expires: end,
			Why: fmt.Sprintf("%d of %d addresses: implicit TLS with a valid certificate", len(right), len(heard))}
	case len(silent) > 0:
		return closed(smtptls.Timeout, all)
	}
	return unknown(all)
}
