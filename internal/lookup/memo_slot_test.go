package lookup

import (
	"hash/maphash"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// TestASlotGivesBackItsOwnAnswerOnly: other keys and maps can have the same slot.
func TestASlotGivesBackItsOwnAnswerOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, givesBackItsOwnAnswerOnly)
}

func givesBackItsOwnAnswerOnly(t *testing.T) {
	m := settingsAndMemo{seed: maphash.MakeSeed()}
	const version = 7
	now, c := time.Now(), &call{m: tlsPolicy, key: "example.com"}
	m.keep(c, &answered{reply: socketmap.OK("dane")}, 7, time.Time{})
	require.Equal(t, "dane", m.recall(c, version).reply.Text)
	require.Nil(t, m.recall(c, 0), "without versions nothing is answered")
	require.Nil(t, m.recall(c, 8), "another version")
	later := *c
	for expires, lasts := range map[time.Time]time.Duration{
		{}: memoMost, now.Add(time.Hour): memoMost, now.Add(time.Minute): 3 * time.Second, now.Add(3 * time.Second): memoLeast,
		now.Add(time.Second): time.Second,
	} {
		m.keep(c, &answered{reply: socketmap.OK("dane")}, 8, expires)
		later.arrived = c.arrived + lasts - 1
		require.NotNil(t, m.recall(&later, 8), lasts)
		later.arrived = c.arrived + lasts
		require.Nil(t, m.recall(&later, 8), lasts)
		m.keep(c, &answered{reply: socketmap.OK("dane")}, version, time.Time{})
	}

	kept := m.pair(c)[0].Load()
	for _, other := range []*call{{m: tlsPolicyTLSRPT, key: "example.com"}, {m: tlsPolicy, key: "example.org"}, {m: transport, key: "example.org"}} {
		for _, slot := range m.pair(other) {
			slot.Store(kept)
		}
		require.Nil(t, m.recall(other, version), "%s %s", other.m, other.key)
	}

	long := &call{m: tlsPolicyTLSRPT, key: "long.example"}
	m.keep(long, &answered{reply: socketmap.OK(strings.Repeat("x", memoBytes+1))}, 7, time.Time{})
	require.Nil(t, m.recall(long, version), "too long")
	m.keep(long, &answered{reply: socketmap.OK(strings.Repeat("x", memoBytes))}, 0, time.Time{})
	require.Nil(t, m.recall(long, 0), "without a version")
	m.keep(long, &answered{reply: socketmap.OK(strings.Repeat("x", memoBytes))}, 7, now.Add(1))
	require.NotNil(t, m.recall(long, version))
	long.arrived++
	require.Nil(t, m.recall(long, version), "its first fact has expired")
}

// TestTwoAnswersShareASlot: two next hops in use with the same slot would otherwise displace each other each time.
func TestTwoAnswersShareASlot(t *testing.T) {
	t.Parallel()
	m := settingsAndMemo{seed: maphash.MakeSeed()}
	const version = 7
	calls := map[*atomic.Pointer[answered]][]*call{}
	for i := 0; ; i++ {
		c := &call{m: tlsPolicy, key: strconv.Itoa(i)}
		slot := m.pair(c)[0]
		if calls[slot] = append(calls[slot], c); len(calls[slot]) < 2 {
			continue
		}
		for _, c := range calls[slot] {
			m.keep(c, &answered{reply: socketmap.OK(c.key)}, version, time.Time{})
		}
		for _, c := range calls[slot] {
			require.NotNil(t, m.recall(c, version))
			require.Equal(t, c.key, m.recall(c, version).reply.Text)
		}
		return
	}
}
