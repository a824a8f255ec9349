package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// printed has what was written.
type printed chan string

func (p printed) Write(text []byte) (int, error) {
	p <- string(text)
	return len(text), nil
}

func TestAStepIsShownAfterASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := make(printed, 10)
		e := &evaluator{progress: out}
		quick := e.begin("looking up a.example")
		time.Sleep(900 * time.Millisecond)
		require.True(t, quick.Stop())
		slow := e.begin("probing mx.a.example")
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, out)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, "probing mx.a.example ...\n", <-out)
		require.False(t, slow.Stop())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Empty(t, out)
	})
}
