// Package bulk checks a list of domains: it reads them, writes a report for each, leaves out those that were done
// before, and sums up. Its memory does not grow with the list.
package bulk

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/policyd/policyd/internal/check/report"
)

// The bounds of a scan, so that its memory does not grow with the list.
const (
	readAhead   = 1 << 17 // domains
	outOfOrder  = 1 << 12 // reports that wait for an earlier one
	longestLine = 1 << 20
	longestDone = 64 << 20
)

// Options say how to check a list of domains.
type Options struct {
	Jobs      int             // domains that are checked concurrently
	Unordered bool            // writes each report when it is ready and not in the order of the list
	Done      map[string]bool // domains to leave out
	Out       io.Writer       // gets a JSON object for each domain and line
	Progress  *Progress       // shows how far the scan is; nil shows nothing
}

// check checks one domain.
type check func(ctx context.Context, domain string) report.Report

// Scan checks the domains of a list as Lines reads it. The error is that of reading, of writing or of ctx. Each report
// that was finished by then has been written as a whole.
func Scan(ctx context.Context, c check, list io.Reader, o Options) (Summary, error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	lines := make(chan string, readAhead)
	var failed error // of reading; written before lines is closed
	// A reader that blocks, such as a terminal, cannot be interrupted, so Scan does not wait for it.
	go func() {
		defer close(lines)
		failed = Lines(list, func(domain string) {
			o.Progress.Total.Add(1)
			select {
			case lines <- domain:
			case <-ctx.Done():
			}
		})
		o.Progress.Complete.Store(failed == nil)
	}()
	s := scan{check: c, o: o, out: json.NewEncoder(o.Out), summary: Summary{Counts: map[string]int{}}}
	defer o.Progress.Start()()
	err := cmp.Or(s.run(ctx, lines), ctx.Err())
	if err == nil { // lines is closed
		err = failed
	}
	return s.summary, err
}

// Lines calls f with the domain in each line of a list. Comments are left out, and the local parts of addresses.
func Lines(list io.Reader, f func(domain string)) error {
	scanner, n, comment := bufio.NewScanner(list), 1, regexp.MustCompile(`^(([^"]|"(\\.|[^"\\])*")*?)(^|\s)#.*`)
	scanner.Buffer(nil, longestLine)
	for ; scanner.Scan(); n++ {
		line := comment.ReplaceAllString(scanner.Text(), "$1") // a local part can contain #, and blanks between quotes
		if line = strings.TrimSpace(line); line != "" {
			f(line[strings.LastIndexByte(line, '@')+1:])
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is too long: write one domain per line, with at most 1 MiB", n)
	}
	return scanner.Err()
}

// scan is a scan in progress.
type scan struct {
	check   check
	o       Options
	mu      sync.Mutex // held by the one that writes
	out     *json.Encoder
	summary Summary
}

func (s *scan) run(ctx context.Context, lines <-chan string) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(outOfOrder)
	busy := semaphore.NewWeighted(int64(max(s.o.Jobs, 1)))
	written := make(chan struct{}) // closed when the reports about all domains before are written, or cannot be
	close(written)
	for {
		line, more := "", false
		select {
		case line, more = <-lines:
		case <-ctx.Done():
		}
		switch {
		case !more:
			return all.Wait()
		case s.o.Done[strings.ToValidUTF8(line, "?")]:
			s.summary.Skipped++
			s.o.Progress.Done.Add(1)
			continue
		case busy.Acquire(ctx, 1) != nil:
			continue
		}
		before, mine := written, make(chan struct{})
		written = mine
		all.Go(func() error {
			defer close(mine)
			r := s.check(ctx, line)
			busy.Release(1)
			if !s.o.Unordered {
				<-before
			}
			return s.write(ctx, &r)
		})
	}
}

// write writes a report in one line, unless an earlier one could not be written. A report of a check that the end of
// ctx cut short is not written, because the domain would count as done.
func (s *scan) write(ctx context.Context, r *report.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.out.Encode(r); err != nil {
		return err
	}
	s.summary.count(r)
	s.o.Progress.Done.Add(1)
	return nil
}

// ReadDone reads the domains that an earlier scan has written. A line that is torn, because the scan was cut short,
// does not count.
func ReadDone(earlier io.Reader) (map[string]bool, error) {
	done := map[string]bool{}
	scanner := bufio.NewScanner(earlier)
	scanner.Buffer(nil, longestDone)
	for scanner.Scan() {
		var r report.Report
		if json.Unmarshal(scanner.Bytes(), &r) == nil && r.Verdict != "" {
			done[r.Input] = true
		}
	}
	return done, scanner.Err()
}
