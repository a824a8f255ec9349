package bulk

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Progress shows how many domains of a list are done: every second in the same line of a terminal, or every ten seconds
// in a new line.
type Progress struct {
	Out         io.Writer    // nil shows nothing
	Terminal    bool         // Out is a terminal
	Total, Done atomic.Int64 // the numbers of domains that have been read so far, and that are done
	Complete    atomic.Bool  // the whole list has been read

	began time.Time
}

// Start begins to show the progress. The function that it returns shows the progress a last time and stops.
func (p *Progress) Start() (stop func()) {
	p.began = time.Now()
	if p.Out == nil {
		return func() {}
	}
	every, end := 10*time.Second, "\n"
	if p.Terminal {
		every, end = time.Second, "\r"
	}
	stopped := make(chan struct{})
	go func() {
		tick := time.Tick(every)
		for {
			select {
			case stopped <- struct{}{}:
				return
			case <-tick:
				p.show(end)
			}
		}
	}()
	return func() {
		<-stopped
		p.show("\n")
	}
}

func (p *Progress) show(end string) {
	width := 0
	if p.Terminal {
		width = 60 // the line that is overwritten may be longer by a few characters
	}
	// An error does not matter: if the terminal is gone, it needs no progress.
	_, _ = fmt.Fprintf(p.Out, "%-*s%s", width, p.line(time.Since(p.began)), end)
}

// line returns the progress as text: how many of how many, the rate, and the time left.
func (p *Progress) line(took time.Duration) string {
	done, total := p.Done.Load(), p.Total.Load()
	rate := float64(done) / max(took.Seconds(), 0.001)
	of, left := fmt.Sprint(total), "time left unknown"
	if !p.Complete.Load() {
		of += "+"
	} else if rate > 0 {
		left = (time.Duration(float64(total-done) / rate * float64(time.Second))).Round(time.Second).String() + " left"
	}
	return fmt.Sprintf("%d of %s domains, %.1f/s, %s", done, of, rate, left)
}
