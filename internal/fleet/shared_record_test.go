package fleet

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARecordIsUsedOnlyIfAuthenticValidAndInItsPlace(t *testing.T) {
	t.Parallel()
	key, previous, other := NewKey(), NewKey(), NewKey()
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	good := Record{recordName: recordName{Policy, "example.com"}, Time: now.Add(-time.Hour), Lifetime: 2 * time.Hour, Data: []byte("data")}
	with := func(change func(*Record)) []byte {
		r := good
		change(&r)
		b := r.seal(key)
		require.NotNil(t, b)
		return b
	}
	flipped := func(at int) []byte {
		b := with(func(*Record) {})
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
	byKey := func(k Key) []byte {
		b := good.seal(k)
		require.NotNil(t, b)
		return b
	}
	for _, c := range []struct {
		name  string
		value []byte
		want  Reason
	}{
		{"good", byKey(key), ""},
		{"signed with the previous key", byKey(previous), ""},
		{"signed with another key", byKey(other), MAC},
		{"empty", nil, Malformed},
		{"a version only", []byte{1}, Malformed},
		{"too long", append([]byte{1}, make([]byte, maxData+2048)...), Malformed},
		{"another version", flipped(0), Version},
		{"a flipped bit in the kind", flipped(3), MAC},
		{"a flipped bit in the domain", flipped(8), MAC},
		{"a flipped bit in the HMAC", flipped(-1), MAC},
		{"a flipped bit in the content", flipped(-35), MAC},
		{"another domain", with(func(r *Record) { r.domain = "example.net" }), Misplaced},
		{"another kind", with(func(r *Record) { r.kind = Promise }), Misplaced},
		{"five minutes ahead", with(func(r *Record) { r.Time = now.Add(5 * time.Minute) }), ""},
		{"six minutes ahead", with(func(r *Record) { r.Time = now.Add(6 * time.Minute) }), Future},
		{"expired", with(func(r *Record) { r.Lifetime = time.Hour }), Expired},
		{"a lifetime beyond a year", with(func(r *Record) { r.Lifetime = maxLifetime + time.Second }), Malformed},
		{"a time before 1970", with(func(r *Record) { r.Time = time.Unix(-1, 0) }), Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, reason := open(c.value, recordName{Policy, "example.com"}, []Key{key, previous}, now)
			require.Equal(t, c.want, reason)
			if c.want == "" {
				require.Equal(t, "data", string(r.Data))
			}
		})
	}
}

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	k := NewKey()
	again, err := ParseKey([]byte(" " + k.Text() + "\n"))
	require.NoError(t, err)
	require.Equal(t, k, again)
	require.NotContains(t, k.String(), k.Text())
	for _, bad := range []string{"", "secret", k.Text()[:20], k.Text() + k.Text(), Key{}.Text()} {
		_, err := ParseKey([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestAMistakeInTheURLDoesNotShowThePassword(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "http://host", "redis://user:secret@host:notaport", "redis://user:secret@[::1", "redis://:secret@h/notanumber", "redis://u:secret@h?master_name=m&db=x"} {
		_, err := New(Options{URL: bad, Keys: []Key{NewKey()}})
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "secret")
	}
	for _, good := range []string{"redis://localhost:6379", "rediss://u:p@host:6380/1", "unix:///run/redis/redis.sock", "redis://u:p@s1:26379?master_name=mymaster&addr=s2:26379"} {
		_, err := New(Options{URL: good, Keys: []Key{NewKey()}})
		require.NoError(t, err, good)
	}
	_, err := New(Options{URL: "redis://localhost"})
	require.ErrorContains(t, err, "policyd fleet key")
}

func TestStreamIDsAreComparedAsNumbers(t *testing.T) {
	t.Parallel()
	require.True(t, before("9-5", "10-1"))
	require.True(t, before("10-9", "10-10"))
	require.False(t, before("10-10", "10-9"))
	require.False(t, before("10-1", "10-1"))
	require.False(t, before("", "10-1"))
	require.True(t, before("0", "10-1"))
}

// unlocked is a Local that may wait for a lookup, which calls Changed.
type unlocked struct {
	Local
	t     *testing.T
	fleet *Fleet
}

func (l unlocked) Domains() []string {
	require.True(l.t, l.fleet.mu.TryLock(), "Changed would wait for a Local that waits for Changed")
	l.fleet.mu.Unlock()
	return []string{"example.com"}
}

// A lookup that notes a promise and a synchronization that begins at the same time must not wait for each other.
func TestEveryRecordIsMarkedWithoutALock(t *testing.T) {
	t.Parallel()
	f, err := New(Options{URL: "redis://localhost", Keys: []Key{NewKey()}})
	require.NoError(t, err)
	f.o.Locals = map[Kind]Local{Policy: unlocked{t: t, fleet: f}, Promise: unlocked{t: t, fleet: f}}
	f.markAll()
	require.Equal(t, map[recordName]change{{Policy, "example.com"}: write, {Promise, "example.com"}: write}, f.takeDirty())
}

func FuzzOpen(f *testing.F) {
	key, now := Key{1}, time.Unix(1_800_000_000, 0)
	seed := Record{recordName{Policy, "example.com"}, now, time.Hour, []byte("x")}.seal(key)
	f.Add(seed[:len(seed)-32])
	f.Add(binary.BigEndian.AppendUint64([]byte{1, 0, 0}, 1<<63))
	f.Add([]byte("\x01\xff" + strings.Repeat("a", 300)))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, reason := open(append(body, key.mac(body)...), recordName{Policy, "example.com"}, []Key{key}, now)
		if reason != "" {
			require.Zero(t, r)
			return
		}
		again := r.seal(key)
		require.NotNil(t, again)
		require.Equal(t, body, again[:len(again)-32])
	})
}

// Nodes with other versions of policyd read these records: their form may not change.
func TestTheFormOfARecordIsStable(t *testing.T) {
	t.Parallel()
	r := Record{recordName{Policy, "example.com"}, time.Unix(1767322800, 0), time.Hour, []byte("data")}
	require.Equal(t, "01"+"03737473"+"0b6578616d706c652e636f6d"+"00000000695734b0"+"0000000000000e10"+"0000000464617461"+
		"c7acd3354301e25cc90185a82cb903d3e5145f9958f93ea98f66a3e0129283c1", fmt.Sprintf("%x", r.seal(Key{1})))
}
