package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgressIsShownAfterASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &progress{out: &out}
		shown := func() string {
			p.mu.Lock()
			defer p.mu.Unlock()
			return out.String()
		}
		stop := p.start()
		p.now("looking up a.example")
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, shown())
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, "looking up a.example ...\n", shown())
		p.now("probing mx.a.example")
		require.Equal(t, "looking up a.example ...\nprobing mx.a.example ...\n", shown())
		stop()
		p.now("late")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.NotContains(t, shown(), "late")
	})
}
