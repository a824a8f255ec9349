package daemon_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/e2e/daemon"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	require.Zero(t, daemon.Quantile(nil, 0.5))
	require.Equal(t, time.Duration(3), daemon.Quantile([]time.Duration{1, 2, 3}, 0.999))
}

func TestWaitFindsEachLineOnce(t *testing.T) {
	t.Parallel()
	var log daemon.Log
	_, err := io.WriteString(&log, "a 1\nb\na 2\na ")
	require.NoError(t, err)
	fits := func(line string) bool { return line[0] == 'a' }
	line, next, err := log.Wait(t.Context(), 0, fits)
	require.NoError(t, err)
	require.Equal(t, "a 1", line)
	require.Equal(t, 1, next)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	line, next, err = log.Wait(over, next, fits)
	require.NoError(t, err, "a line that is there is found after the end of the time")
	require.Equal(t, "a 2", line)
	_, next, err = log.Wait(over, next, fits)
	require.ErrorIs(t, err, context.Canceled)
	_, err = io.WriteString(&log, "3\n")
	require.NoError(t, err)
	line, _, err = log.Wait(t.Context(), next, fits)
	require.NoError(t, err)
	require.Equal(t, "a 3", line)
}
