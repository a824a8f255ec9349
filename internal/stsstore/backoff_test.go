package stsstore

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/statedb"
)

// A live policy shortens a back-off to a quarter of its remaining time, but not below a minute. It never makes one longer.
func TestBackOffWithALivePolicy(t *testing.T) {
	t.Parallel()
	now := time.Now()
	server := &mtasts.Error{Failure: mtasts.FetchError, Err: errors.New("HTTP status 500")}
	lookup := &mtasts.Error{Failure: mtasts.FetchError, Err: &dns.Error{Reason: "SERVFAIL"}}
	for _, c := range []struct {
		err       *mtasts.Error
		failed    time.Duration // the back-off before this failure
		remaining time.Duration // of the live policy
		want      time.Duration
	}{
		{server, 0, time.Hour, 5 * time.Minute},
		{server, time.Hour, 4 * time.Hour, time.Hour},
		{server, time.Hour, time.Minute, time.Minute},
		{lookup, 0, time.Hour, 2 * time.Second},
		{lookup, 0, 0, 2 * time.Second},
	} {
		f := failures{statedb.New(statedb.Options[failure]{Max: 1, LastUse: func(failure) int64 { return 0 }})}
		f.Lock()
		f.Put("example.com", failure{at: now, retry: now, backOff: c.failed})
		f.Unlock()
		f.add(want{domain: "example.com", have: &storedPolicy{expires: now.Add(c.remaining)}}, c.err, now)
		require.InDelta(t, c.want, f.Get("example.com").retry.Sub(now), float64(c.want)/10)
	}
}
