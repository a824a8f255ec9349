package policy_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/policy"
	"github.com/policyd/policyd/prefix"
)

func mxFacts(rrset *dns.RRset, err error) policy.Facts {
	f := *policy.NewFacts(domain)
	f.SetMX(rrset, err)
	return f
}

// The meaning of an MX answer without a usable MX RRset.
func TestFactsOfAnswersWithoutMX(t *testing.T) {
	t.Parallel()
	itself := []policy.Host{{Name: "example.com"}}
	failure := errors.New("SERVFAIL")
	for name, c := range map[string]struct {
		rrset dns.RRset
		err   error
		mx    policy.MX
		hosts []policy.Host
	}{
		"a secure NXDOMAIN":    {dns.RRset{NXDomain: true, Status: signed}, nil, policy.MX{Status: signed, NXDomain: true}, nil},
		"an insecure NXDOMAIN": {dns.RRset{NXDomain: true, Status: unsigned}, nil, policy.MX{Status: unsigned, Implicit: true}, itself},
		"a secure denial":      {dns.RRset{Status: signed}, nil, policy.MX{Status: signed, Implicit: true}, itself},
		"a null MX":            {dns.RRset{Status: signed, Records: []dns.MX{{}}}, nil, policy.MX{Status: signed, Null: true}, nil},
		"a null MX among others": {
			dns.RRset{Status: signed, Records: []dns.MX{{}, {Host: "starttls-a.example.com", Preference: 10}}}, nil,
			policy.MX{Status: signed}, []policy.Host{{}, {Name: "starttls-a.example.com", Preference: 10, Class: prefix.STARTTLS}},
		},
		"a failed lookup": {dns.RRset{Status: signed, NXDomain: true}, failure, policy.MX{Err: failure}, nil},
	} {
		f := mxFacts(&c.rrset, c.err)
		require.Equal(t, c.mx, f.MX, name)
		require.Equal(t, c.hosts, f.Hosts, name)
	}
	smtps := *policy.NewFacts(policy.Nexthop{Name: "smtps-a.example.com", Port: 25})
	smtps.SetMX(&dns.RRset{Status: signed}, nil)
	require.Equal(t, prefix.None, smtps.Hosts[0].Class, "the name of an implicit MX promises nothing")
}

// 32 hosts are considered, each once; of the others the number and the best preference count.
func TestFactsOfManyHosts(t *testing.T) {
	t.Parallel()
	rrset := &dns.RRset{Status: signed}
	for i := range uint16(35) {
		mx := dns.MX{Host: fmt.Sprintf("starttls-%d.example.com", i), Preference: i}
		rrset.Records = append(rrset.MX(), mx, dns.MX{Host: mx.Host, Preference: i + 100})
	}
	f := mxFacts(rrset, nil)
	require.Len(t, f.Hosts, 32)
	require.Equal(t, policy.Host{Name: "starttls-31.example.com", Preference: 31, Class: prefix.STARTTLS}, f.Hosts[31])
	require.EqualValues(t, 32, f.MX.RestPreference)
	require.Positive(t, f.MX.Rest)
	f = mxFacts(&dns.RRset{Status: signed, Records: []dns.MX{{Host: "smtps-a b.example.com"}, {Host: "smtps-a:b.example.com"}}}, nil)
	require.Equal(t, []prefix.Class{prefix.None, prefix.None}, []prefix.Class{f.Hosts[0].Class, f.Hosts[1].Class})
}
