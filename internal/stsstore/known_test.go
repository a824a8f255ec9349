package stsstore

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
)

// A lookup that meets the end of the reading of the disk must not take a policy that was read just then for none.
func TestWhatIsReadJustNowIsKnown(t *testing.T) {
	t.Parallel()
	s := &Store{table: newTable()}
	s.table.setLimit(DefaultMaxPolicies)
	for range 20_000 {
		e := newEntry("example.com", "1", mtasts.Policy{Mode: mtasts.Enforce, MaxAge: time.Hour, MX: []string{"mx.example.com"}}, time.Now())
		var reading sync.WaitGroup
		reading.Go(func() {
			s.table.putNew(e)
			s.loaded.Store(true)
		})
		for sure := false; !sure; {
			var found *entry
			found, sure = s.known(e.domain, false)
			require.False(t, sure && found == nil, "no policy, for sure")
		}
		reading.Wait()
		s.loaded.Store(false)
		s.table.remove(e)
	}
}

// While the disk is read, who may not wait is told nothing; who may gets the last word.
func TestLiveWhileTheDiskIsRead(t *testing.T) {
	t.Parallel()
	s := &Store{table: newTable()}
	r := View{store: s, cached: true}.Live("example.com")
	require.Equal(t, mtasts.Unknown, r.State)
	require.ErrorIs(t, r.Err, dns.ErrNotCached)
}
