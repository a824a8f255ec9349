package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Log collects the output of a program. It can be read while it is written. The zero value is empty.
type Log struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
}

// Write adds output.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte{'\n'})
		if !found {
			break
		}
		l.lines, l.partial = append(l.lines, string(line)), rest
	}
	return len(p), nil
}

// Lines returns the complete lines from number n on.
func (l *Log) Lines(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[n:len(l.lines):len(l.lines)]
}

// String returns all complete lines.
func (l *Log) String() string { return strings.Join(append(l.Lines(0), ""), "\n") }

// Tail returns the last lines that contain any of the words, to show after a failure.
func (l *Log) Tail(count int, words ...string) string {
	kept := slices.DeleteFunc(slices.Clone(l.Lines(0)), func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) })
	})
	return strings.Join(kept[max(0, len(kept)-count):], "\n")
}

// Wait waits for a line from number n on that fits, and returns it and the number of the line after it.
func (l *Log) Wait(ctx context.Context, n int, fits func(string) bool) (line string, next int, err error) {
	err = Until(ctx, "a line is logged", func() (bool, error) {
		lines := l.Lines(n)
		i := slices.IndexFunc(lines, fits)
		if i < 0 {
			n += len(lines)
			return false, nil
		}
		line, n = lines[i], n+i+1
		return true, nil
	})
	return line, n, err
}

// Until calls yes repeatedly until it returns true, and ends with its error, or when ctx ends.
func Until(ctx context.Context, what string, yes func() (bool, error)) error {
	const pause = 20 * time.Millisecond
	for {
		done, err := yes()
		if done || err != nil {
			return err
		}
		if err := Sleep(ctx, pause); err != nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
	}
}

// Sleep waits for d. The error is the reason why ctx ended earlier.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), context.Cause(ctx))
	}
}

// Quantile returns the time within which the given part of the answers came. The times are sorted.
func Quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// Millis formats a time in milliseconds.
func Millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
