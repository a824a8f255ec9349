//go:build e2e

package zone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func tree(t *testing.T) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	tr, err := NewTree(dir, []Zone{
		{Origin: "."},
		{Origin: "test.", Broken: []string{"b.test. A"}},
		{Origin: "three.test.", State: Signed3},
		{Origin: "old.test.", State: Expired},
		{Origin: "other.test.", State: WrongDS},
		{Origin: "open.test.", State: Unsigned},
	})
	require.NoError(t, err)
	require.NoError(t, tr.Add("a.test. A 127.0.0.1", "b.test. A 127.0.0.2", "*.w.test. MX 10 a.test.", "x.y.three.test. A 127.0.0.3"))
	require.NoError(t, tr.Write())
	return tr, dir
}

// read returns the records of a zone by owner and type.
func read(t *testing.T, dir, origin string) map[string][]dns.RR {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, File(origin)))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	all := map[string][]dns.RR{}
	zp := dns.NewZoneParser(f, origin, "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		k := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
		if sig, is := rr.(*dns.RRSIG); is {
			k += " " + dns.TypeToString[sig.TypeCovered]
		}
		all[k] = append(all[k], rr)
	}
	require.NoError(t, zp.Err())
	return all
}

// verifies reports whether an RRset has a valid signature by the key of the zone.
func verifies(t *testing.T, zone map[string][]dns.RR, origin, set string) bool {
	t.Helper()
	owner, typ, _ := strings.Cut(set, " ")
	keys, sigs := zone[origin+" DNSKEY"], zone[owner+" RRSIG "+typ]
	require.Len(t, keys, 1)
	require.Len(t, sigs, 1, set)
	require.NotEmpty(t, zone[set])
	sig, ok := sigs[0].(*dns.RRSIG)
	require.True(t, ok)
	key, ok := keys[0].(*dns.DNSKEY)
	require.True(t, ok)
	return sig.Verify(key, zone[set]) == nil && sig.ValidityPeriod(time.Now())
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	_, dir := tree(t)
	top := read(t, dir, "test.")
	for set, want := range map[string]bool{
		"test. SOA": true, "test. NS": true, "test. DNSKEY": true, "a.test. A": true, "a.test. NSEC": true,
		"*.w.test. MX": true, "three.test. DS": true, "other.test. DS": true, "open.test. NSEC": true,
		"b.test. A": false, // broken
	} {
		require.Equal(t, want, verifies(t, top, "test.", set), set)
	}
	require.Empty(t, top["three.test. RRSIG NS"], "the NS of a delegation belong to the child (RFC 4035 section 2.2)")
	require.Empty(t, top["open.test. DS"])
	old := read(t, dir, "old.test.")
	require.False(t, verifies(t, old, "old.test.", "old.test. SOA"), "expired")
	require.Empty(t, read(t, dir, "open.test.")["open.test. DNSKEY"])
}

func TestDelegations(t *testing.T) {
	t.Parallel()
	_, dir := tree(t)
	top := read(t, dir, "test.")
	for origin, want := range map[string]bool{"three.test.": true, "old.test.": true, "other.test.": false} {
		key, ok := read(t, dir, origin)[origin+" DNSKEY"][0].(*dns.DNSKEY)
		require.True(t, ok)
		ds, ok := top[origin+" DS"][0].(*dns.DS)
		require.True(t, ok)
		require.Equal(t, want, strings.EqualFold(ds.Digest, key.ToDS(dns.SHA256).Digest), origin)
	}
}

// TestNSEC3 checks that each name has a record, including the empty name between them (RFC 5155 section 7.1).
func TestNSEC3(t *testing.T) {
	t.Parallel()
	_, dir := tree(t)
	covered := map[string]bool{"three.test.": false, "y.three.test.": false, "x.y.three.test.": false}
	count := 0
	for _, set := range read(t, dir, "three.test.") {
		for _, rr := range set {
			if n, ok := rr.(*dns.NSEC3); ok {
				count++
				for name := range covered {
					covered[name] = covered[name] || n.Match(name)
				}
			}
		}
	}
	require.Equal(t, map[string]bool{"three.test.": true, "y.three.test.": true, "x.y.three.test.": true}, covered)
	require.Len(t, covered, count)
}

func TestSet(t *testing.T) {
	t.Parallel()
	tr, dir := tree(t)
	require.NoError(t, tr.Set("a.test.", "A", 1, "127.0.0.9"))
	require.NoError(t, tr.Set("*.w.test.", "MX", 1))
	require.Error(t, tr.Add("relative A 127.0.0.1"))
	require.NoError(t, tr.Write())
	top := read(t, dir, "test.")
	require.Len(t, top["a.test. A"], 1)
	require.Equal(t, "a.test.\t1\tIN\tA\t127.0.0.9", top["a.test. A"][0].String())
	require.True(t, verifies(t, top, "test.", "a.test. A"))
	require.Empty(t, top["*.w.test. MX"])
	require.Equal(t, "three.test.", tr.Origin("x.three.test."))
	require.Equal(t, []string{".", "old.test.", "open.test.", "other.test.", "test.", "three.test."}, tr.Origins())
}
