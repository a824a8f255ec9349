package policy_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
)

// table is a resolver that answers from a table and fails the test for any other question.
type table struct {
	t       *testing.T
	answers map[string]answer

	mu      sync.Mutex
	asked   []dns.Question
	efforts map[dns.Effort]bool // of all questions
}

type answer struct {
	rrset dns.RRset
	err   error
}

func (d *table) Lookup(_ context.Context, q dns.Question, e dns.Effort) (*dns.RRset, error) {
	d.mu.Lock()
	d.asked = append(d.asked, q)
	if d.efforts == nil {
		d.efforts = map[dns.Effort]bool{}
	}
	d.efforts[e] = true
	d.mu.Unlock()
	a, ok := d.answers[q.Type.String()+" "+q.Name]
	if !ok {
		d.t.Errorf("unexpected question: %s %s", q.Type, q.Name)
		return nil, errors.New("unexpected question")
	}
	if a.err != nil {
		return nil, a.err
	}
	return &a.rrset, nil
}

func mxs(status dns.Status, mx ...dns.MX) answer {
	return answer{rrset: dns.RRset{Status: status, MX: mx}}
}

func addrs(a ...string) answer {
	r := dns.RRset{Status: dns.Secure}
	for _, s := range a {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(s))
	}
	return answer{rrset: r}
}

// site is an OwnSite of three lists.
type site struct {
	domains, hosts, addrs []string
	err                   error
}

func (s site) Own(_ context.Context, domain string) (bool, string, error) {
	for _, d := range s.domains {
		if d == domain {
			return true, "mydestination has " + d, nil
		}
	}
	return false, "", s.err
}

func (s site) OwnHost(name string) bool {
	return slices.Contains(s.hosts, name)
}

func (s site) OwnAddr(a netip.Addr) bool {
	for _, o := range s.addrs {
		if o == a.String() {
			return true
		}
	}
	return false
}

var domain = policy.Nexthop{Name: "example.com", Port: 25}

func TestGather(t *testing.T) {
	t.Parallel()
	t.Run("no DNS query for a host, with mode off, or where the overrides decide", func(t *testing.T) {
		t.Parallel()
		e := policy.Engine{Resolver: &table{t: t}}
		_, err := e.Gather(t.Context(), policy.Nexthop{Name: "starttls-a.example", Host: true, Port: 25}, defaults())
		require.NoError(t, err)
		_, err = e.Gather(t.Context(), domain, with(func(o *policy.Options) { o.Mode = policy.ModeOff }))
		require.NoError(t, err)
	})
	t.Run("a failed lookup is a fact", func(t *testing.T) {
		t.Parallel()
		broken := &dns.Error{Reason: "SERVFAIL"}
		e := policy.Engine{Resolver: &table{t: t, answers: map[string]answer{"MX example.com": {err: broken}}}}
		f, err := e.Gather(t.Context(), domain, defaults())
		require.NoError(t, err)
		require.Equal(t, policy.MX{Err: broken}, f.MX)
	})
	t.Run("what is not cached is the caller's business", func(t *testing.T) {
		t.Parallel()
		e := policy.Engine{Resolver: &table{t: t, answers: map[string]answer{"MX example.com": {err: dns.ErrNotCached}}}}
		f, err := e.Gather(t.Context(), domain, defaults())
		require.ErrorIs(t, err, dns.ErrNotCached)
		require.Equal(t, "TEMP no facts were gathered", policy.Decide(f, defaults()).Reply.String())
	})
	t.Run("null MX", func(t *testing.T) {
		t.Parallel()
		e := policy.Engine{Resolver: &table{t: t, answers: map[string]answer{"MX example.com": mxs(signed, dns.MX{})}}}
		f, err := e.Gather(t.Context(), domain, defaults())
		require.NoError(t, err)
		require.True(t, f.MX.Null)
		require.Empty(t, f.Hosts)
	})
	t.Run("1,500 hosts: the 32 best are considered, each once", func(t *testing.T) {
		t.Parallel()
		var many []dns.MX
		for i := range uint16(1500) {
			many = append(many, dns.MX{Preference: i, Host: fmt.Sprintf("starttls-%d.example.com", i/2)})
		}
		e := policy.Engine{Resolver: &table{t: t, answers: map[string]answer{"MX example.com": mxs(signed, many...)}}}
		f, err := e.Gather(t.Context(), domain, defaults())
		require.NoError(t, err)
		require.Len(t, f.Hosts, policy.MaxHosts)
		require.Equal(t, "starttls-31.example.com", f.Hosts[31].Name)
		require.Equal(t, 1500-64, f.MX.Rest)
		require.Equal(t, uint16(64), f.MX.RestPreference)
	})
}

func TestGatherRoute(t *testing.T) {
	t.Parallel()
	const s, backup = "smtps-s.example.com", "mx.example.net"
	zone := func() map[string]answer {
		return map[string]answer{
			"MX example.com": mxs(signed, dns.MX{Preference: 10, Host: s}, dns.MX{Preference: 20, Host: backup}),
			"A " + s:         addrs("192.0.2.1"), "AAAA " + s: addrs("2001:db8::1"),
			"A " + backup: addrs("192.0.2.2"), "AAAA " + backup: addrs(),
		}
	}
	broken := &dns.Error{Reason: "SERVFAIL"}
	for _, c := range []struct {
		name   string
		site   policy.OwnSite
		change func(map[string]answer)
		want   policy.ReceiverState
	}{
		{"somebody else", site{}, nil, policy.ReceiverElsewhere},
		{"one of our domains", site{domains: []string{"example.com"}}, func(m map[string]answer) { clearAddrs(m) }, policy.ReceiverHere},
		{"an MX host is this host by name: backup MX for somebody", site{hosts: []string{backup}}, func(m map[string]answer) { clearAddrs(m) }, policy.ReceiverHere},
		{"an MX host has an address of this host", site{addrs: []string{"192.0.2.2"}}, nil, policy.ReceiverHere},
		{"an IPv6 address of this host", site{addrs: []string{"2001:db8::1"}}, nil, policy.ReceiverHere},
		{"our lists cannot be read: in doubt", site{err: errors.New("postconf failed")}, func(m map[string]answer) { clearAddrs(m) }, policy.ReceiverUnknown},
		{"no site at all: in doubt", nil, func(m map[string]answer) { clearAddrs(m) }, policy.ReceiverUnknown},
		{"an address lookup fails: in doubt", site{}, func(m map[string]answer) { m["AAAA "+backup] = answer{err: broken} }, policy.ReceiverUnknown},
		{"an address lookup fails, another address is ours", site{addrs: []string{"192.0.2.1"}}, func(m map[string]answer) { m["AAAA "+backup] = answer{err: broken} }, policy.ReceiverHere},
		{"no smtps- host first: nothing more is looked up", nil, func(m map[string]answer) {
			clearAddrs(m)
			m["MX example.com"] = mxs(signed, dns.MX{Preference: 10, Host: backup})
		}, policy.ReceiverUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			answers := zone()
			if c.change != nil {
				c.change(answers)
			}
			d := &table{t: t, answers: answers}
			e := policy.Engine{Resolver: d, Site: c.site, Effort: dns.Effort{Untrusted: true}}
			f, err := e.GatherRoute(t.Context(), domain, defaults())
			require.NoError(t, err)
			require.Equal(t, c.want, f.Receiver.State, f.Receiver.Why)
			require.Equal(t, map[dns.Effort]bool{{Untrusted: true}: true}, d.efforts)
		})
	}
	t.Run("not cached", func(t *testing.T) {
		t.Parallel()
		answers := zone()
		answers["A "+backup] = answer{err: dns.ErrNotCached}
		e := policy.Engine{Resolver: &table{t: t, answers: answers}, Site: site{}}
		_, err := e.GatherRoute(t.Context(), domain, defaults())
		require.ErrorIs(t, err, dns.ErrNotCached)
	})
}

func clearAddrs(m map[string]answer) {
	for k := range m {
		if k != "MX example.com" {
			delete(m, k)
		}
	}
}
