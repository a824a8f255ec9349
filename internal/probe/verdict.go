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
	maxConnections = 4 // concurrent ones to different addresses of one host
	lookupTimeout  = 15 * time.Second
	openLife       = 2 * time.Hour // how long an open verdict is valid
	closedLife     = 24 * time.Hour
)

// finding is the result of the probe of a host. Its Verdict is Unknown where the probe failed on our side: what was
// known before still holds.
type finding struct {
	Verdict
	retryAfter  time.Duration        // set if a rate does not allow the probe yet
	transcripts []smtptls.Transcript // for all addresses of the host, if the probe connected
}

func unknown(why string) Verdict { return Verdict{Why: smtptls.Tidy(why)} }

func closed(c smtptls.Cause, why string) Verdict {
	now := wallClock()
	return Verdict{State: Closed, Cause: c, Checked: now, Expires: now.Add(closedLife), Why: smtptls.Tidy(why)}
}

// addresses looks up the addresses of a host, and returns each once, IPv4 first. After an error, not all are known.
func addresses(ctx context.Context, res dns.Starter, host string) (all []netip.Addr, err error) {
	// Remote parties choose the hosts, so the cache must not refresh them.
	lookup := dns.StartAddresses(ctx, res, host, dns.Effort{Untrusted: true}, dns.BothFamilies)
	until := time.Now().Add(lookupTimeout)
	for range 2 { // address families
		answer := lookup.Next(until)
		if answer.Err != nil {
			return nil, answer.Err
		}
		all = append(all, answer.RRset.Addrs()...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// examine probes one host: every address it has, or none. limited is set for a probe that obeys the rates.
func (p *Prober) examine(ctx context.Context, name string, o *Options, limited bool) finding {
	addrs, err := addresses(ctx, o.Resolver, name)
	_, special := address.Ordinary(addrs)
	switch {
	case err != nil:
		return finding{Verdict: unknown("the addresses could not be looked up: " + dns.Reason(err))}
	case len(addrs) == 0:
		return finding{Verdict: closed(smtptls.NoAddress, "the host has no address")}
	case !o.Special && special != nil:
		// One such address closes the host: the others alone are not "every address", and Postfix would connect to this
		// one too.
		return finding{Verdict: closed(smtptls.AddressNotAllowed, special.Error())}
	case len(addrs) > MaxAddresses:
		return finding{Verdict: closed(smtptls.AddressNotAllowed,
			fmt.Sprintf("the host has %d addresses, over %d", len(addrs), MaxAddresses))}
	}
	if limited {
		connections := addrs
		if o.Postfix != nil {
			connections = slices.Repeat(addrs, 2) // Postfix's client connects to each address once more
		}
		if wait := p.rates.admit(connections); wait > 0 {
			return finding{retryAfter: wait, Verdict: unknown("put off: its network has been probed a lot")}
		}
	}
	transcripts := make([]smtptls.Transcript, len(addrs))
	var group errgroup.Group
	group.SetLimit(maxConnections)
	for i, a := range addrs {
		group.Go(func() (err error) {
			transcripts[i], err = p.runDialogue(ctx, smtptls.Dialogue{
				Host: name, Addr: netip.AddrPortFrom(a, o.Port), Implicit: true, Helo: o.Helo, Roots: o.Roots,
				Postfix: o.Postfix,
			}, o)
			return err
		})
	}
	if err := group.Wait(); err != nil { // all other failures are in the transcripts
		return finding{Verdict: unknown(err.Error())}
	}
	f := finding{Verdict: Judge(transcripts), transcripts: transcripts}
	if f.State == Open && !f.Checked.Before(f.Expires) {
		f.Verdict = closed(smtptls.CertificateExpired, "the certificate has just expired")
	}
	return f
}

// outcome is what the dialogue with one address shows about the host.
type outcome string

const (
	outcomeOpen      outcome = "open"
	outcomeWrong     outcome = "wrong"         // the address answered, but not as an open host does
	outcomeUndecided outcome = "undecided"     // the address answered, and then something failed on our side
	outcomeSilent    outcome = "silent"        // it did not answer
	outcomeLocal     outcome = "local failure" // something failed on our side before it could answer
)

func classify(t *smtptls.Transcript) outcome {
	switch {
	case t.OK():
		return outcomeOpen
	case t.LocalFailure() && t.Connected:
		return outcomeUndecided
	case t.LocalFailure():
		return outcomeLocal
	case t.Silent():
		return outcomeSilent
	}
	return outcomeWrong
}

// Judge makes the verdict of a host from the dialogues in implicit TLS with all its addresses. A wrong answer from any
// address closes the host, because Postfix picks the address; so does silence of all addresses. A silent address next
// to a good one only costs Postfix a connect timeout. A failure on our side is not a verdict, and where the address
// answered, the host is not open either.
func Judge(transcripts []smtptls.Transcript) Verdict {
	now := wallClock()
	expires := now.Add(openLife)
	groups := map[outcome][]*smtptls.Transcript{}
	for i := range transcripts {
		t := &transcripts[i]
		o := classify(t)
		groups[o] = append(groups[o], t)
		// There is no session if only Postfix could speak with the address.
		if o == outcomeOpen && t.Session != nil && t.Session.NotAfter.Before(expires) {
			expires = t.Session.NotAfter
		}
	}
	open, wrong := groups[outcomeOpen], groups[outcomeWrong]
	undecided, silent, local := groups[outcomeUndecided], groups[outcomeSilent], groups[outcomeLocal]
	var faults []string // the reason of the address that decides comes first
	for _, t := range slices.Concat(wrong, undecided, silent, local) {
		faults = append(faults, t.Addr.Addr().String()+": "+t.Why)
	}
	why := strings.Join(faults, "; ")
	switch {
	case len(wrong) > 0:
		return closed(wrong[0].Cause, why)
	case len(undecided) > 0:
		return unknown(why)
	case len(open) > 0:
		return Verdict{State: Open, Checked: now, Expires: expires,
			Why: fmt.Sprintf("%d of %d addresses: implicit TLS with a valid certificate", len(open), len(transcripts))}
	case len(silent) > 0:
		return closed(smtptls.Timeout, why)
	}
	return unknown(why)
}
