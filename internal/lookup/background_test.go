package lookup_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/gather"
	"github.com/policyd/policyd/internal/lookup"
)

// slowly answers like everywhere, but takes a minute for the domains that are named so.
func slowly(asked *atomic.Int64) dns.Resolver {
	quick, slow := everywhere(50*time.Millisecond, asked), everywhere(time.Minute, nil)
	return resolverFunc(func(ctx context.Context, q dns.Question) (*dns.RRset, error) {
		if strings.Contains(q.Name, "slow") {
			return slow.Lookup(ctx, q, dns.Effort{})
		}
		return quick.Lookup(ctx, q, dns.Effort{})
	})
}

// A request joins a lookup that has begun and waits for its answer, however busy the workers are: the answer does not
// depend on a free worker.
func TestARequestWaitsForALookupThatHasBegunWhileNoWorkerIsFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := service(slowly(nil), nothing(), settings())
		defer running(svc)()
		for i := range 63 {
			go ask(svc, fmt.Sprintf("transport user@slow%d.example", i))
		}
		time.Sleep(time.Second) // these requests were answered, and the lookups continue
		first := make(chan string)
		go func() { first <- ask(svc, "transport user@example.com") }()
		synctest.Wait() // the last worker is busy now
		require.Equal(t, "OK smtps26:example.com:26", ask(svc, "transport someone@example.com"))
		require.Equal(t, "OK smtps26:example.com:26", <-first)
	})
}

// A lookup that is dropped because too many wait leaves no trace: the next request for its domain starts a new one.
func TestADroppedLookupCanBeginAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		svc := service(slowly(&asked), nothing(), settings())
		defer running(svc)()
		for i := range 64 {
			go ask(svc, fmt.Sprintf("transport user@slow%d.example", i))
		}
		synctest.Wait() // every worker is busy
		require.Equal(t, "NOTFOUND ", ask(svc, "transport user@example.com"))
		for i := range 1024 {
			require.Equal(t, "NOTFOUND ", ask(svc, fmt.Sprintf("transport user@waiting-slow%d.example", i)))
		}
		time.Sleep(time.Hour) // the workers are free again
		require.Zero(t, asked.Load(), "the lookup of example.com was dropped")
		require.Equal(t, "OK smtps26:example.com:26", ask(svc, "transport user@example.com"))
	})
}

// hanging is a site that never answers. It records how long callers waited.
type hanging struct {
	gather.Elsewhere
	waited *atomic.Int64
}

func (h hanging) Own(ctx context.Context, _ string, e dns.Effort) (bool, string, error) {
	if e.CacheOnly {
		return false, "", dns.ErrNotCached
	}
	start := time.Now()
	<-ctx.Done()
	h.waited.Store(int64(time.Since(start)))
	return false, "", ctx.Err()
}

// A lookup in the background ends after 15 seconds, whatever hangs, and its worker is free again.
func TestALookupInTheBackgroundEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var waited atomic.Int64
		src := from(views{asking: everywhere(0, nil), cached: nothing()})
		src.Site = hanging{waited: &waited}
		svc := lookup.New(src, settings(), slog.New(slog.DiscardHandler))
		defer running(svc)()
		require.Equal(t, "NOTFOUND ", ask(svc, "transport user@example.com"))
		time.Sleep(time.Hour)
		require.Equal(t, 15*time.Second, time.Duration(waited.Load()))
	})
}
