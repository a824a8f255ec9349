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

// Options are for a check of a list of domains.
type Options struct {
	Jobs      int             // domains that are checked concurrently
	Unordered bool            // writes each report when it is ready and not in the order of the list
	Done      map[string]bool // domains to leave out
	Out       io.Writer       // gets one line per domain: its report as a JSON object
	Progress  *Progress       // nil shows nothing
}

// check checks one domain.
type check func(ctx context.Context, domain string) report.Report

// Scan checks the domains of a list as Lines reads it. The error comes from reading, from writing or from ctx. Reports
// that were written before an error are complete.
func Scan(ctx context.Context, c check, list io.Reader, o Options) (Summary, error) {
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	lines := make(chan string, readAhead)
	var failed error // the error of reading; set before lines is closed
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

// Lines calls f with the domain in each line of a list. A line can also have an address, whose local part is left out.
// Comments begin with #. The error comes from reading, or names a line that is too long.
func Lines(list io.Reader, f func(domain string)) error {
	scanner, n, comment := bufio.NewScanner(list), 1, regexp.MustCompile(`^(([^"]|"(\\.|[^"\\])*")*?)(^|\s)#.*`)
	scanner.Buffer(nil, longestLine)
	for ; scanner.Scan(); n++ {
		// A local part can contain #, and blanks between quotes.
		address := strings.TrimSpace(comment.ReplaceAllString(scanner.Text(), "$1"))
		if address != "" {
			f(address[strings.LastIndexByte(address, '@')+1:])
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
	mu      sync.Mutex // held while a report is written
	out     *json.Encoder
	summary Summary
}

func (s *scan) run(ctx context.Context, lines <-chan string) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(outOfOrder)
	busy := semaphore.NewWeighted(int64(max(s.o.Jobs, 1)))
	previous := make(chan struct{}) // closed when the reports about all earlier domains are written, or cannot be
	close(previous)
	for {
		var line string
		more := false
		select {
		case line, more = <-lines:
		case <-ctx.Done():
		}
		if !more {
			return all.Wait()
		}
		if s.o.Done[strings.ToValidUTF8(line, "?")] {
			s.summary.Skipped++
			s.o.Progress.Done.Add(1)
			continue
		}
		if err := busy.Acquire(ctx, 1); err != nil {
			continue // ctx has ended
		}
		before, written := previous, make(chan struct{})
		previous = written
		all.Go(func() error {
			defer close(written)
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

// ReadDone returns the domains in the output of an earlier scan. An incomplete line, from a scan that was interrupted,
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
