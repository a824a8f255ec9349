package main

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// span is a stretch of time.
type span struct{ from, to time.Time }

const (
	nap = 250 * time.Microsecond
	// late is from when on a waking up counts as a stall.
	late = time.Millisecond
)

// watchStalls has a thread on each processor wake up again and again, before all others where that is allowed. The function
// that it returns ends that, and returns the stretches in which a processor was not there for such a thread: the hypervisor had
// given it to somebody else, or the kernel was busy. Nothing that a server does has a part in them.
func watchStalls(ctx context.Context) (end func() ([]span, error), err error) {
	cpus, err := processors()
	if err != nil {
		return nil, err
	}
	// One for each thread and for the client: nobody here waits for somebody here.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(cpus)+2))
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		spans []span
		err   error
	}
	results := make(chan result, len(cpus))
	for _, cpu := range cpus {
		go func() {
			runtime.LockOSThread() // and it is never unlocked: the thread ends with the goroutine
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				results <- result{err: err}
				return
			}
			goFirst()
			spans, err := sleep(ctx)
			results <- result{spans, err}
		}()
	}
	return func() (all []span, err error) {
		cancel()
		for range cpus {
			r := <-results
			all, err = append(all, r.spans...), errors.Join(err, r.err)
		}
		return merge(all), err
	}, nil
}

// processors are those that this process may use.
func processors() (cpus []int, err error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, err
	}
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// goFirst has this thread go before all usual ones, and says whether that is allowed.
func goFirst() bool {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0) == nil
}

// mayGoFirst says whether goFirst is allowed.
func mayGoFirst() bool {
	may := make(chan bool)
	go func() {
		runtime.LockOSThread()
		may <- goFirst()
	}()
	return <-may
}

// sleep naps until ctx ends, and returns when it overslept.
func sleep(ctx context.Context) (spans []span, err error) {
	request := unix.NsecToTimespec(nap.Nanoseconds())
	for last := time.Now(); ctx.Err() == nil; {
		if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &request, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		now := time.Now()
		if now.Sub(last) > nap+late {
			spans = append(spans, span{last.Add(nap), now})
		}
		last = now
	}
	return spans, nil
}

// merge returns the same stretches, in order, none of which touches another.
func merge(spans []span) (merged []span) {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	for _, s := range spans {
		if n := len(merged); n > 0 && !s.from.After(merged[n-1].to) {
			if s.to.After(merged[n-1].to) {
				merged[n-1].to = s.to
			}
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// without is how long a stretch is but for those.
func (s span) without(others []span) time.Duration {
	left := s.to.Sub(s.from)
	for _, o := range others {
		from, to := o.from, o.to
		if from.Before(s.from) {
			from = s.from
		}
		if to.After(s.to) {
			to = s.to
		}
		left -= max(to.Sub(from), 0)
	}
	return left
}
